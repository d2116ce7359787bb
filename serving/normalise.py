"""Any picture of a digit, made as MNIST's pictures were.

LeCun, Cortes and Burges, The MNIST database, http://yann.lecun.com/exdb/mnist/: the ink is fitted
into 20 x 20 pixels with its proportions kept, and put into 28 x 28 so that its centre of mass is
in the middle.
"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from storage.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 25_000_000
SIDE, FIT, CENTRE = 28, 20, 14

# The ink is looked for at this size; a digit needs no more.
WORK = 240
# Of 255 grey levels, that ink has to differ from paper.
MIN_CONTRAST = 25
# Of the 20 pixels. MNIST's strokes are wider; a thin pen's would fade when they are made smaller.
MIN_STROKE = 2.0


def read_image(content: bytes) -> Image.Image:
    """Decode an image file, after its kind and size were looked at.

    Args:
        content: The file's bytes.

    Raises:
        ImageError: If it is none of FORMATS, too large, or damaged.
    """
    try:
        with warnings.catch_warnings():
            # It warns of large images; ours is the bound that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"expected an image of at most {MAX_PIXELS:,} pixels,"
                f" received {image.width:,} x {image.height:,}; make it smaller"
            )
        # A photograph is decoded at a fraction of its size, where that is enough.
        image.draft("RGB", (4 * WORK, 4 * WORK))
        image.load()
        return ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"expected an image of at most {MAX_PIXELS:,} pixels, received a larger one"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise ImageError(
            f"expected an image file ({', '.join(FORMATS)}), received {_what(content, error)}"
        ) from error


def normalise(image: Image.Image) -> NDArray[np.uint8]:
    """Find the digit, and make it look like one of MNIST's.

    Dark on light or light on dark, in colour or grey, of any size, drawn or photographed, on a
    transparent background or not.

    Returns:
        uint8, shape (28, 28): 0 is paper, 255 is ink.

    Raises:
        ImageError: If there is no ink on it.
    """
    ink = _ink(_grey(image))
    strong = ink > 0.4
    if not strong.any():
        raise _empty()
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    # What is fainter around it belongs to it, as the soft edge of a stroke.
    top, bottom = _grown(ink.max(axis=1), rows[0], rows[-1])
    left, right = _grown(ink.max(axis=0), columns[0], columns[-1])
    return _placed(_fitted(ink[top:bottom, left:right]))


def _grey(image: Image.Image) -> NDArray[np.float32]:
    """One channel, float32 from 0 to 255, at most WORK high and wide: where most can be seen."""
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
        # On paper that is unlike what is drawn.
        seen = alpha.sum()
        mean = (colour * alpha).sum() / (3 * seen) if seen > 0 else 0.0
        paper = np.full_like(colour, 255 if mean < 128 else 0)
        colour = colour * alpha + paper * (1 - alpha)
    luma = colour @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    # Red ink on green paper of the same brightness is seen in one of the colours alone.
    channels = [luma, *np.moveaxis(colour, 2, 0)]
    spread = [float(channel.std()) for channel in channels]
    best = int(np.argmax(spread))
    return channels[best] if spread[best] > 1.5 * spread[0] else luma


def _ink(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much ink there is, float32 from 0 to 1, whichever of the two is darker.

    Raises:
        ImageError: If all is of one shade.
    """
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(edge))
    if abs(float(grey.max()) - paper) < abs(paper - float(grey.min())):
        grey, paper = 255 - grey, 255 - paper
    difference = grey - _background(grey)
    noise = 1.4826 * float(np.median(np.abs(difference - np.median(difference))))
    low = 3 * noise
    high = float(np.percentile(difference[difference >= difference.max() / 2], 90))
    if high > 250:
        high = 255.0  # an image of full contrast, as MNIST's own, is taken as it is
    if high - low < MIN_CONTRAST:
        raise _empty()
    ink: NDArray[np.float32] = np.clip((difference - low) / (high - low), 0, 1)
    return ink


def _background(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """The paper under light ink, with the shadows that lie on it."""
    small = Image.fromarray(grey.astype(np.uint8))
    small.thumbnail((40, 40), Image.Resampling.BOX)
    # Wider than a stroke is: what is left after an opening is paper.
    width = max(3, max(small.size) // 3 | 1)
    paper = small.filter(ImageFilter.MinFilter(width)).filter(ImageFilter.MaxFilter(width))
    paper = paper.filter(ImageFilter.GaussianBlur(2))
    size = grey.shape[1], grey.shape[0]
    return np.asarray(paper.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)


def _grown(profile: NDArray[np.float32], first: int, last: int) -> tuple[int, int]:
    """The range, with what joins it and is above nothing."""
    while first > 0 and profile[first - 1] > 0.02:
        first -= 1
    while last < len(profile) - 1 and profile[last + 1] > 0.02:
        last += 1
    return first, last + 1


def _fitted(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scaled so that the longer side is 20 pixels."""
    height, width = ink.shape
    scale = FIT / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return ink
    image = Image.fromarray((ink * 255).astype(np.uint8))
    thicker = round((MIN_STROKE / scale - _stroke(ink)) / 2)
    if thicker > 0:
        image = image.filter(ImageFilter.MaxFilter(2 * thicker + 1))
    fitted = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    fitted /= fitted.max()
    return fitted


def _stroke(ink: NDArray[np.float32]) -> float:
    """The width of its strokes in pixels: twice their area by the length of their outline."""
    mask = np.pad(ink > 0.4, 1)
    outline = int((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum())
    return 2 * float(mask.sum()) / max(outline, 1)


def _placed(ink: NDArray[np.float32]) -> NDArray[np.uint8]:
    """In 28 x 28, with the centre of mass in the middle as far as the edges allow."""
    height, width = ink.shape
    total = float(ink.sum())
    row = float(ink.sum(axis=1) @ np.arange(height)) / total
    column = float(ink.sum(axis=0) @ np.arange(width)) / total
    top = min(max(round(CENTRE - row), 0), SIDE - height)
    left = min(max(round(CENTRE - column), 0), SIDE - width)
    placed = np.zeros((SIDE, SIDE), dtype=np.uint8)
    placed[top : top + height, left : left + width] = np.rint(ink * 255)
    return placed


def _empty() -> ImageError:
    return ImageError("expected a digit on the image, received one without any ink")


def _what(content: bytes, error: Exception) -> str:
    if not content:
        return "an empty one"
    said = str(error).partition("\n")[0]
    return "something else" if "cannot identify" in said else f"a damaged one ({said})"
