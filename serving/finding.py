"""Find the strokes of each digit in a picture.

Light is flattened, ink is separated from paper, surroundings are left out, and connected pieces of
ink are put together into digits. Lengths are shares of the picture or of the tallest digit.
"""

import cv2
import numpy as np

from serving.ink import Grey, Mask, box, find_ink
from serving.pieces import Piece, split, together
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
        sheets = [sheet for piece in pieces if (sheet := sheet_of(piece)) is not None]
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
    tallest = max(piece.height for piece in digits)
    if tallest > 1.2 * tall:
        digits = _joined(mask, tallest)
    return _with_parts(digits)


def _joined(mask: Mask, tall: int) -> list[Piece]:
    """Groups of ink that are close together, or above each other."""
    reach = 2 * max(1, round(0.035 * tall)) + 1
    near = cv2.dilate(mask.astype(np.uint8), box(reach))
    _, labels = cv2.connectedComponents(near, connectivity=8)
    groups = [together([mask & (labels == label)]) for label in np.unique(labels[mask])]
    merged: list[Piece] = []
    for piece in sorted(groups, key=lambda piece: piece.left):
        for at, other in enumerate(merged):
            if _one_digit(other, piece, tall):
                merged[at] = together([other.mask, piece.mask])
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
            whole[nearest] = together([whole[nearest].mask, part.mask])
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
