"""Turn any picture of a digit into MNIST's form.

LeCun, Cortes and Burges, The MNIST database, http://yann.lecun.com/exdb/mnist/: scale the ink to
fit 20 x 20 pixels, keeping its proportions, and centre it in 28 x 28 by its centre of mass.
"""

import io
import re
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from serving.finding import STRONG, find_pieces
from serving.ink import MIN_CONTRAST, box, find_ink
from serving.pieces import Piece, stroke_of
from storage.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 25_000_000
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, above which it warns
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged EXIF data, which is left out
SIDE, FIT, CENTRE = 28, 20, 14

# Key of an image's info: by how much it was reduced when it was decoded.
REDUCED = "digits: reduced"

# How files of other types begin.
OTHERS = {
    b"GIF8": "a GIF file",
    b"II\\*\0|MM\0\\*|II\\+\0|MM\0\\+": "a TIFF file",
    b".{4}ftypavi": "an AVIF file",
    b".{4}ftyp(he|mif|msf)": "a HEIC file",
    b"%PDF": "a PDF file",
    b"\\s*<(svg|\\?xml)": "an SVG file",
    b"\x1f\x8b": "a gzip file",
    b"PK\3\4": "a ZIP file",
}

# Images are searched for ink at this size; a digit needs no more.
WORK = 480
# Pixels of the 20. MNIST's strokes are wider; a thin pen's would fade when scaled down.
MIN_STROKE = 2.0
# A digit's longer side, at most, when its strokes are measured.
COARSE = 120


def read_image(content: bytes) -> Image.Image:
    """Decode an image file; its format and size are checked first.

    Raises:
        ImageError: If it is in none of FORMATS, too large, or damaged.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"expected an image of at most {MAX_PIXELS:,} pixels,"
                f" received {image.width:,} x {image.height:,}; make it smaller"
            )
        # JPEG can be decoded at a fraction of its size.
        width = image.width
        image.draft("RGB", (2 * WORK, 2 * WORK))
        image.info[REDUCED] = width / image.width
        image.load()
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise ImageError(
            f"expected an image file ({', '.join(FORMATS)}), received {_problem(content, error)}"
        ) from error


class Box(NamedTuple):
    """Where a digit is, in pixels of the picture as a viewer shows it."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class FoundDigit:
    """One digit of a picture.

    Attributes:
        image: uint8, shape (28, 28): 0 is paper, 255 is ink.
        box: Where it is.
    """

    image: NDArray[np.uint8]
    box: Box


def find_digits(image: Image.Image) -> list[FoundDigit]:
    """Find the digits, from left to right, and bring each into MNIST's form.

    Handles dark on light and light on dark, colour and grey, any size, drawings, photographs
    and transparent backgrounds; leaves out lines, frames, and what is around the sheet.

    Returns:
        At least one digit.

    Raises:
        ImageError: If there is no ink, or nothing that can be a digit.
    """
    size = max(image.size) * image.info.get(REDUCED, 1.0)
    grey = _grey(image)
    if grey.shape == (SIDE, SIDE) and _in_mnists_form(ink := find_ink(grey)):
        return [FoundDigit(np.rint(ink * 255).astype(np.uint8), _box_of(ink > 0, 1.0))]
    scale = size / max(grey.shape)
    ink, pieces = find_pieces(grey)
    return [_found(ink, piece, scale) for piece in pieces]


def normalise(image: Image.Image) -> NDArray[np.uint8]:
    """Find the only digit and bring it into MNIST's form.

    Returns:
        uint8, shape (28, 28): 0 is paper, 255 is ink.

    Raises:
        ImageError: If there is no digit, or more than one.
    """
    digits = find_digits(image)
    if len(digits) > 1:
        raise ImageError(f"expected one digit in the image, found {len(digits)}; crop it to one")
    return digits[0].image


def _in_mnists_form(ink: NDArray[np.float32]) -> bool:
    """Whether ink of full contrast fills 20 of 28 pixels and is centred by its mass."""
    if ink.max() < 1:
        return False
    _, _, width, height = _box_of(ink > 0, 1.0)
    rows, columns = np.indices(ink.shape)
    mass = ink.sum()
    off = max(abs(float((ink * at).sum() / mass) - CENTRE) for at in (rows, columns))
    return max(width, height) == FIT and off <= 0.6


def _box_of(mask: NDArray[np.bool_], scale: float) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0] * scale), int(rows[0] * scale)
    right, bottom = round((columns[-1] + 1) * scale), round((rows[-1] + 1) * scale)
    return Box(left, top, right - left, bottom - top)


def _found(ink: NDArray[np.float32], piece: Piece, scale: float) -> FoundDigit:
    # Add fainter ink around it: the soft edges of strokes.
    reach = 2 * max(2, max(piece.width, piece.height) // 100) + 1
    near = cv2.dilate(piece.mask.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    own = np.where(near, ink, np.float32(0))
    seen = own > 0.02
    left, top, width, height = _box_of(seen, 1.0)
    crop = own[top : top + height, left : left + width]
    return FoundDigit(_placed(_fitted(crop)), _box_of(seen, scale))


def _grey(image: Image.Image) -> NDArray[np.float32]:
    """The channel with the most contrast: float32, 0 to 255, at most WORK high and wide."""
    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        values = np.asarray(image, dtype=np.float32)
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
        image = Image.fromarray(scaled.astype(np.uint8))
    rgba = image.convert("RGBA")
    if max(rgba.size) > WORK:
        rgba.thumbnail((WORK, WORK), Image.Resampling.BOX)
    pixels = np.asarray(rgba, dtype=np.float32)
    colour, alpha = pixels[..., :3], pixels[..., 3:] / np.float32(255)
    if alpha.min() < 1:
        colour = colour * alpha + _paper_behind(colour, alpha) * (1 - alpha)
    luma = colour @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    # Red ink on green paper of the same brightness shows only in a colour channel.
    channels = [luma, *np.moveaxis(colour, 2, 0)]
    spread = [float(channel.std()) for channel in channels]
    best = int(np.argmax(spread))
    return channels[best] if spread[best] > 1.5 * spread[0] else luma


def _paper_behind(colour: NDArray[np.float32], alpha: NDArray[np.float32]) -> float:
    """The grey level of the paper behind a drawing: white for dark ones, black for light ones."""
    drawn = alpha[..., 0] > 0.5
    core = cv2.erode(drawn.astype(np.uint8), box(3)) > 0
    rim = drawn & ~core
    if core.any() and rim.any():
        # Soft edges that were drawn on paper fade into its colour.
        fades = float(colour[rim].mean() - colour[core].mean())
        if abs(fades) > MIN_CONTRAST:
            return 255 if fades > 0 else 0
    opaque = float(alpha.sum())
    mean = float((colour * alpha).sum()) / (3 * opaque) if opaque > 0 else 0.0
    return 255 if mean < 128 else 0


def _fitted(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the longer side to 20 pixels, thickening thin strokes."""
    height, width = ink.shape
    scale = FIT / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return ink
    image = Image.fromarray((ink * 255).astype(np.uint8))
    if scale < FIT / COARSE:
        # What is finer is the grain of the paper.
        scale = FIT / COARSE
        image.thumbnail((COARSE, COARSE), Image.Resampling.BOX)
        ink = np.asarray(image, dtype=np.float32) / np.float32(255)
    thicker = round((MIN_STROKE / scale - stroke_of(ink > STRONG)) / 2)
    if thicker > 0:
        image = image.filter(ImageFilter.MaxFilter(2 * thicker + 1))
    fitted = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    fitted /= fitted.max()
    return fitted


def _placed(ink: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Place it in 28 x 28, its centre of mass as close to the middle as the edges allow."""
    height, width = ink.shape
    total = float(ink.sum())
    row = float(ink.sum(axis=1) @ np.arange(height)) / total
    column = float(ink.sum(axis=0) @ np.arange(width)) / total
    top = min(max(round(CENTRE - row), 0), SIDE - height)
    left = min(max(round(CENTRE - column), 0), SIDE - width)
    placed = np.zeros((SIDE, SIDE), dtype=np.uint8)
    placed[top : top + height, left : left + width] = np.rint(ink * 255)
    return placed


def _problem(content: bytes, error: Exception) -> str:
    if not content:
        return "an empty file"
    for pattern, kind in OTHERS.items():
        if re.match(pattern, content, re.DOTALL):
            return f"{kind}; save it as PNG or JPEG"
    message = str(error).partition("\n")[0]
    return "another file type" if "cannot identify" in message else f"a damaged file ({message})"
