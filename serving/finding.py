"""Find the strokes of digits in a picture, and leave out what surrounds them.

Light is flattened, ink is separated from paper, and connected pieces of ink are sorted into lines,
frames, edges of a sheet, and digits. Lengths are shares of the picture or of the tallest digit.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.errors import ImageError

cv2.setNumThreads(1)  # requests run side by side already

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Grey levels of 255 between ink and paper.
MIN_CONTRAST = 25
# Ink above this share of the darkest is part of a stroke.
STRONG = 0.4
# The largest ones; the grain of wood and noise have thousands.
MAX_PIECES = 100


@dataclass(frozen=True, eq=False)
class Piece:
    """A connected piece of ink, or several that form one digit."""

    mask: Mask
    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column after it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + self.height

    @property
    def area(self) -> int:
        """Pixels of its box."""
        return self.width * self.height


def find_ink(grey: Grey) -> Grey:
    """The amount of ink per pixel.

    Args:
        grey: float32, shape (height, width), 0 to 255; dark on light or light on dark.

    Returns:
        float32, shape (height, width), 0 to 1; all 0 if there is no ink.
    """
    if _light_on_dark(grey):
        grey = 255 - grey
    paper = _paper(grey)
    darkness = 255 * (1 - grey / np.maximum(paper, 1))
    clear = darkness[darkness <= max(_otsu(np.maximum(darkness, 0)), 0)]
    noise = 1.4826 * float(np.median(np.abs(clear - np.median(clear))))
    low = 3 * noise
    high = float(np.percentile(darkness[darkness >= darkness.max() / 2], 90))
    if high > 250:
        high = 255.0  # leave images of full contrast, such as MNIST's own, unchanged
    if high - low < MIN_CONTRAST:
        return np.zeros_like(grey)
    ink: Grey = np.clip((darkness - low) / (high - low), 0, 1)
    return ink


def find_pieces(grey: Grey) -> tuple[Grey, list[Piece]]:
    """Return the ink, and the digits from left to right.

    Args:
        grey: As for `find_ink`.

    Raises:
        ImageError: If there is no ink, or nothing that can be a digit.
    """
    for _ in range(3):
        ink = find_ink(grey)
        pieces = _pieces(ink > STRONG)
        if not pieces:
            raise ImageError("expected a digit in the image, found no ink")
        sheets = [sheet for piece in pieces if (sheet := _sheet(piece)) is not None]
        if not sheets:
            break
        grey = np.where(sheets[0], grey, np.float32(np.median(grey[sheets[0]])))
    pieces = _without_lines(_inside_frame(pieces))
    pieces = _without_underlines(_without_edges(pieces, ink.shape))
    if not pieces:
        raise ImageError(
            "expected a digit in the image, found only lines or a frame;"
            " crop the picture to the digit"
        )
    return ink, _one_line(_one_pen(_digits(pieces), ink))


def _sheet(piece: Piece) -> Mask | None:
    """The inside of a piece that is no stroke but a sheet of paper, with its writing."""
    if not 0.05 < piece.area / piece.mask.size < 0.98:
        return None
    outline = _outline(piece)
    _, (width, height), _ = cv2.minAreaRect(outline)
    if float(cv2.contourArea(outline)) < 0.85 * width * height:
        return None
    filled = np.zeros(piece.mask.shape, np.uint8)
    cv2.drawContours(filled, [outline], -1, 1, cv2.FILLED)
    inside = cv2.erode(filled, _box(5)) > 0
    writing = inside & ~piece.mask
    share = float(writing.sum()) / max(float(inside.sum()), 1)
    if not 0.005 < share < 0.45:
        return None
    return inside


def _light_on_dark(grey: Grey) -> bool:
    """Whether the strokes are lighter than the paper."""
    scale = min(1.0, 120 / max(grey.shape))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    light = small > _otsu(small)
    share = float(np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]]).mean())
    # The picture's edge shows paper, unless light and shadow are what the threshold parts.
    parted = _parted(small, light)
    if not 0.1 < share < 0.9 or (parted > 0.8 and share > 0.65) or parted > 0.95:
        return share < 0.5
    # Strokes are narrower than paper.
    amounts = [_narrow(small, max(small.shape) // part) for part in (16, 8, 5, 3)]
    enough = 0.3 * float(np.max(amounts))
    for darks, lights in amounts:
        # Of shapes wider than this only the corners show.
        if max(darks, lights) > max(2 * min(darks, lights), enough):
            return lights > darks
    return share < 0.3


def _parted(grey: NDArray[Any], light: Mask) -> float:
    """The share of the variance that two levels explain: near 1 for ink on even paper."""
    if light.all() or not light.any():
        return 0.0
    share = float(light.mean())
    between: float = share * (1 - share) * float(grey[light].mean() - grey[~light].mean()) ** 2
    return between / max(float(grey.var()), 1e-6)


def _narrow(grey: NDArray[Any], width: int) -> tuple[float, float]:
    """The amounts of dark and of light in shapes narrower than this."""
    padded = cv2.copyMakeBorder(grey, width, width, width, width, cv2.BORDER_REPLICATE)
    dark = cv2.morphologyEx(padded, cv2.MORPH_BLACKHAT, _box(width | 1))
    light = cv2.morphologyEx(padded, cv2.MORPH_TOPHAT, _box(width | 1))
    least = 0.3 * max(dark.max(), light.max())
    return float(dark[dark > least].sum()), float(light[light > least].sum())


def _paper(grey: Grey) -> Grey:
    """The brightness of the paper under the ink, under even or uneven light."""
    threshold, darkest = _otsu(grey), float(np.percentile(grey, 2))
    bright = grey > threshold
    light, dark = grey[bright], grey[~bright]
    level = float(np.median(light)) if light.size else float(grey.max())
    contrast = max(level - darkest, 1)
    uneven = float(np.mean(np.abs(light - level))) > 0.07 * contrast
    shadow = dark.size > 0 and float(np.mean(np.abs(dark - darkest))) > 0.3 * contrast
    if not (uneven or shadow) or _parted(grey, bright) > 0.95:
        return np.full_like(grey, level)
    # A closing wider than a stroke leaves only the paper, with its shadows as sharp as they are.
    half = max(grey.shape) // 5
    smooth = cv2.medianBlur(grey.astype(np.uint8), 5)
    padded = cv2.copyMakeBorder(smooth, half, half, half, half, cv2.BORDER_REPLICATE)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _box(2 * half + 1))
    return np.asarray(closed[half:-half, half:-half], np.float32)


def _otsu(grey: NDArray[Any]) -> float:
    threshold, _ = cv2.threshold(grey.astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(threshold)


def _box(width: int, height: int | None = None) -> NDArray[np.uint8]:
    return np.ones((height or width, width), np.uint8)


def _pieces(mask: Mask) -> list[Piece]:
    """The largest connected pieces of a mask."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    least = 3 if mask.size >= 4000 else 0
    largest = [at for at in np.argsort(-areas, kind="stable")[:MAX_PIECES] if areas[at] > least]
    return [Piece(labels == at + 1, *map(int, stats[at + 1, :4])) for at in sorted(largest)]


def _inside_frame(pieces: list[Piece]) -> list[Piece]:
    """What is inside the frame around the largest piece, if there is such a frame."""
    contents = {
        frame: inside
        for frame in pieces
        if (inside := [piece for piece in pieces if _encloses(frame, piece)])
        and max(piece.height for piece in inside) > 0.25 * frame.height
        and _rectangular(frame)
    }
    if not contents:
        return [piece for piece in pieces if not _button(piece)] or pieces

    def largest(inside: list[Piece]) -> int:
        return max((piece.area for piece in inside if piece not in contents), default=0)

    # A window is around its canvas, and its buttons are frames too.
    best = min(contents, key=lambda frame: (-largest(contents[frame]), frame.area))
    return contents[best]


def _button(piece: Piece) -> bool:
    """Whether it is a box with little in it."""
    return (
        piece.area > 1.5 * piece.mask.sum()
        and min(piece.width, piece.height) > 0.3 * max(piece.width, piece.height)
        and _rectangular(piece, 0.9)
    )


def _encloses(frame: Piece, piece: Piece) -> bool:
    return (
        frame.left < piece.left
        and piece.right < frame.right
        and frame.top < piece.top
        and piece.bottom < frame.bottom
    )


def _rectangular(piece: Piece, least: float = 0.8) -> bool:
    """Whether it fills its smallest rectangle, holes included."""
    outline = _outline(piece)
    _, (width, height), _ = cv2.minAreaRect(outline)
    return float(cv2.contourArea(outline)) > least * width * height


def _outline(piece: Piece) -> NDArray[np.int32]:
    contours, _ = cv2.findContours(
        piece.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return np.asarray(max(contours, key=cv2.contourArea), np.int32)


def _without_lines(pieces: list[Piece]) -> list[Piece]:
    """Remove thin straight lines that cross most of the picture."""
    if not pieces:
        return pieces
    mask = np.logical_or.reduce([piece.mask for piece in pieces])
    height, width = mask.shape
    lines = np.zeros_like(mask)
    for kernel, across in (
        (_box(int(0.6 * width), 1), _box(1, max(2, height // 40))),
        (_box(1, int(0.6 * height)), _box(max(2, width // 40), 1)),
    ):
        runs = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
        thick = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, across)
        lines |= (runs > 0) & (thick == 0)
    if not lines.any():
        return pieces
    return _pieces(mask & ~lines)


def _without_edges(pieces: list[Piece], shape: tuple[int, ...]) -> list[Piece]:
    """Leave out what the picture's edge cuts off, if something else can be the digit."""
    height, width = shape[:2]
    whole = [
        piece
        for piece in pieces
        if piece.left > 0 and piece.top > 0 and piece.right < width and piece.bottom < height
    ]
    tallest = max((piece.height for piece in whole), default=0)
    if tallest < 0.15 * height or any(_fills(piece) for piece in pieces):
        return pieces
    return whole


def _fills(piece: Piece) -> bool:
    """Whether it reaches from one edge of the picture to the other, but lies along none."""
    mask = piece.mask
    height, width = mask.shape
    edges = (mask[0].mean(), mask[-1].mean(), mask[:, 0].mean(), mask[:, -1].mean())
    return max(piece.height / height, piece.width / width) > 0.97 and float(max(edges)) < 0.8


def _without_underlines(pieces: list[Piece]) -> list[Piece]:
    """Leave out a flat line below everything else."""
    kept = []
    for piece in pieces:
        others = [other for other in pieces if other is not piece]
        tallest = max(others, key=lambda other: other.height, default=piece)
        flat = piece.height < 0.25 * piece.width and piece.width > 0.8 * tallest.width
        below = piece.top > tallest.top + 0.8 * tallest.height
        if not (flat and below):
            kept.append(piece)
    return kept


def _digits(pieces: list[Piece]) -> list[Piece]:
    """Put pieces together that form one digit, and leave out specks."""
    tall = max(piece.height for piece in pieces)
    pieces = [piece for piece in pieces if max(piece.width, piece.height) > 0.1 * tall]
    mask = np.logical_or.reduce([piece.mask for piece in pieces])
    digits = _joined(mask, tall)
    # The pieces of a broken digit are smaller than the digit, and so were the gaps allowed.
    tallest = max(piece.height for piece in digits)
    if tallest > 1.2 * tall:
        digits = _joined(mask, tallest)
    return _with_parts(digits)


def _joined(mask: Mask, tall: int) -> list[Piece]:
    """Groups of ink that are close together, or above each other."""
    reach = 2 * max(1, round(0.035 * tall)) + 1
    near = cv2.dilate(mask.astype(np.uint8), _box(reach))
    _, labels = cv2.connectedComponents(near, connectivity=8)
    groups = [_together([mask & (labels == label)]) for label in np.unique(labels[mask])]
    merged: list[Piece] = []
    for piece in sorted(groups, key=lambda piece: piece.left):
        for at, other in enumerate(merged):
            if _one_digit(other, piece, tall):
                merged[at] = _together([other.mask, piece.mask])
                break
        else:
            merged.append(piece)
    return sorted(merged, key=lambda piece: piece.left)


def _one_digit(one: Piece, other: Piece, tall: int) -> bool:
    """Whether two pieces are above each other, as the bar of a 5 and its bow."""
    shared = min(one.right, other.right) - max(one.left, other.left)
    apart = max(one.top, other.top) - min(one.bottom, other.bottom)
    lower = min(one.height, other.height)
    if apart > -0.3 * lower:
        return shared > 0.1 * min(one.width, other.width) and apart < 0.3 * tall
    share = 0.3 if lower < 0.6 * tall else 0.6
    return shared > share * min(one.width, other.width)


def _with_parts(digits: list[Piece]) -> list[Piece]:
    """Add what is too small for a digit to the digit that it is close to, or leave it out."""
    tallest = max(piece.height for piece in digits)
    whole = [piece for piece in digits if piece.height > 0.35 * tallest]
    for part in digits:
        if part.height > 0.35 * tallest:
            continue
        nearest = min(range(len(whole)), key=lambda at: _distance(whole[at], part))
        if _distance(whole[nearest], part) < 0.12 * tallest:
            whole[nearest] = _together([whole[nearest].mask, part.mask])
    return whole


def _distance(one: Piece, other: Piece) -> float:
    """Pixels between the boxes of two pieces."""
    across = max(one.left, other.left) - min(one.right, other.right)
    down = max(one.top, other.top) - min(one.bottom, other.bottom)
    return float(np.hypot(max(across, 0), max(down, 0)))


def _one_pen(digits: list[Piece], ink: Grey) -> list[Piece]:
    """Leave out what is much fainter than the largest digit."""
    amounts = [float(ink[piece.mask].mean()) for piece in digits]
    largest = max(range(len(digits)), key=lambda at: digits[at].area)
    least = 0.7 * amounts[largest]
    return [piece for piece, amount in zip(digits, amounts, strict=True) if amount >= least]


def _one_line(digits: list[Piece]) -> list[Piece]:
    """The digits beside the largest one, as far as they follow each other closely."""
    main = max(digits, key=lambda piece: piece.area)
    line = [
        piece
        for piece in digits
        if min(main.bottom, piece.bottom) - max(main.top, piece.top) > 0.4 * piece.height
    ]
    at = line.index(main)
    first = last = at
    while first > 0 and line[first].left - line[first - 1].right < 0.9 * main.height:
        first -= 1
    while last + 1 < len(line) and line[last + 1].left - line[last].right < 0.9 * main.height:
        last += 1
    return line[first : last + 1]


def _together(masks: list[Mask]) -> Piece:
    mask = np.logical_or.reduce(masks)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    width, height = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
    return Piece(mask, int(columns[0]), int(rows[0]), width, height)
