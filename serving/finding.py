"""Find the strokes of each digit in a picture.

Light is flattened, ink is separated from paper, surroundings are left out, and connected pieces of
ink are put together into digits. Lengths are shares of the picture or of the tallest digit.
"""

import cv2
import numpy as np

from serving.ink import Grey, Mask, box, find_ink
from serving.pieces import Piece, split, stroke_of, together
from serving.surroundings import (
    inside_frame,
    sheet_of,
    without_edges,
    without_lines,
    without_underlines,
)
from storage.errors import ImageError

# Ink above this share of the darkest is part of a stroke.
STRONG = 0.4


def find_pieces(grey: Grey) -> tuple[Grey, list[Piece]]:
    """Return the ink, and the digits from left to right.

    Args:
        grey: As for `find_ink`.

    Raises:
        ImageError: If there is no ink, or nothing that can be a digit.
    """
    for _ in range(3):
        ink = find_ink(grey)
        pieces = split(ink > STRONG)
        if not pieces:
            raise ImageError("expected a digit in the image, found no ink")
        sheets = [sheet for piece in pieces if (sheet := sheet_of(piece, grey)) is not None]
        if not sheets:
            break
        grey = np.where(sheets[0], grey, np.float32(np.median(grey[sheets[0]])))
    pieces = without_lines(inside_frame(pieces))
    pieces = without_underlines(without_edges(pieces, ink.shape))
    if not pieces:
        raise ImageError(
            "expected a digit in the image, found only lines or a frame;"
            " crop the picture to the digit"
        )
    return ink, _one_line(_one_pen(_digits(pieces), ink))


def _digits(pieces: list[Piece]) -> list[Piece]:
    """Put pieces together that form one digit, and leave out specks."""
    tall = max(piece.height for piece in pieces)
    pieces = [piece for piece in pieces if max(piece.width, piece.height) > 0.1 * tall]
    mask = np.logical_or.reduce([piece.mask for piece in pieces])
    digits = _joined(mask, tall)
    # The pieces of a broken digit are smaller than the digit, and so were the gaps allowed.
    while (tallest := max(piece.height for piece in digits)) > tall:
        tall = tallest
        digits = _joined(mask, tall)
    return _with_parts(digits)


def _joined(mask: Mask, tall: int) -> list[Piece]:
    """Groups of ink that are close together, or above each other."""
    reach = 2 * max(1, round(0.035 * tall)) + 1
    near = cv2.dilate(mask.astype(np.uint8), box(reach))
    _, labels = cv2.connectedComponents(near, connectivity=8)
    groups = [together([mask & (labels == label)]) for label in np.unique(labels[mask])]
    merged: list[Piece] = []
    for piece in sorted(groups, key=lambda piece: piece.left):
        grown = piece
        while other := next((one for one in merged if _one_digit(one, grown, tall)), None):
            merged.remove(other)
            grown = together([other.mask, grown.mask])
        merged.append(grown)
    return sorted(merged, key=lambda piece: piece.left)


def _one_digit(one: Piece, other: Piece, tall: int) -> bool:
    """Whether two pieces are above each other, as the bar of a 5 and its bow."""
    shared = min(one.right, other.right) - max(one.left, other.left)
    apart = max(one.top, other.top) - min(one.bottom, other.bottom)
    lower = min(one.height, other.height)
    if max(one.height, other.height) < 0.25 * tall:
        return False  # a column of dots is not a digit
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
            whole[nearest] = together([whole[nearest].mask, part.mask])
    return whole


def _distance(one: Piece, other: Piece) -> float:
    """Pixels between the boxes of two pieces."""
    across = max(one.left, other.left) - min(one.right, other.right)
    down = max(one.top, other.top) - min(one.bottom, other.bottom)
    return float(np.hypot(max(across, 0), max(down, 0)))


def _one_pen(digits: list[Piece], ink: Grey) -> list[Piece]:
    """Leave out what is much fainter than the largest digit, and short strokes much thinner."""
    main = max(digits, key=lambda piece: piece.area)
    amount, stroke = float(ink[main.mask].mean()), stroke_of(main.mask)
    return [
        piece
        for piece in digits
        if float(ink[piece.mask].mean()) >= 0.7 * amount
        and (
            piece.height > 0.6 * main.height
            or piece.width > 0.4 * piece.height
            or stroke_of(piece.mask) > 0.5 * stroke
        )
    ]


def _one_line(digits: list[Piece]) -> list[Piece]:
    """The digits on the line of the largest one, without small pieces far from every large one.

    Raises:
        ImageError: If there are digits above or below it, too.
    """
    main = max(digits, key=lambda piece: piece.area)
    line = [
        piece
        for piece in digits
        if min(main.bottom, piece.bottom) - max(main.top, piece.top) > 0.4 * piece.height
    ]
    if any(piece.height > 0.6 * main.height for piece in digits if piece not in line):
        raise ImageError(
            "expected digits on one line, found more lines; crop the picture to one line"
        )
    large = [piece for piece in line if piece.height > 0.5 * main.height]
    return [
        piece
        for piece in line
        if any(piece is one or _distance(piece, one) < 0.9 * main.height for one in large)
    ]
