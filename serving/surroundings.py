"""Leave out what surrounds a digit: the desk, frames, lines, and what the edge cuts off."""

import cv2
import numpy as np

from serving.ink import MIN_CONTRAST, Grey, Mask, box
from serving.pieces import Piece, encloses, outline_of, rectangular, split


def sheet_of(piece: Piece, grey: Grey) -> Mask | None:
    """The inside of a piece that is a sheet of paper with writing, not a stroke."""
    if not 0.15 < piece.area / piece.mask.size < 0.98:  # a bold, angular digit is smaller
        return None
    outline = outline_of(piece)
    if not rectangular(outline, 0.85):
        return None
    filled = np.zeros(piece.mask.shape, np.uint8)
    cv2.drawContours(filled, [outline], -1, 1, cv2.FILLED)
    inside = cv2.erode(filled, box(5)) > 0
    if not inside.any():  # of a picture of a few pixels
        return None
    room = float(inside.sum())
    share = float((inside & ~piece.mask).sum()) / room
    if share < 0.005 and min(piece.width, piece.height) > 0.5 * max(piece.width, piece.height):
        # A coloured note: its writing and the note itself both differ from what is around it.
        smooth = cv2.medianBlur(grey.astype(np.uint8), 5).astype(np.float32)
        writing = inside & (np.abs(smooth - np.median(smooth[inside])) > MIN_CONTRAST)
        share = float(writing.sum()) / room
    return inside if 0.005 < share < 0.45 else None


def inside_frame(pieces: list[Piece]) -> list[Piece]:
    """The frame's contents if the largest piece is in a frame, else what is in none."""
    contents = {
        frame: inside
        for frame in pieces
        if (inside := [piece for piece in pieces if encloses(frame, piece)])
        and max(piece.height for piece in inside) > 0.25 * frame.height
        and rectangular(outline_of(frame), 0.75)  # a circle, too
    }
    if not contents:
        return [piece for piece in pieces if not _button(piece)] or pieces

    def largest(inside: list[Piece]) -> int:
        return max((piece.area for piece in inside if piece not in contents), default=0)

    # A window is around its canvas, and its buttons are frames too.
    best = min(contents, key=lambda frame: (-largest(contents[frame]), frame.area))
    framed = {*contents, *(piece for inside in contents.values() for piece in inside)}
    outside = [piece for piece in pieces if piece not in framed]
    return outside if largest(outside) > largest(contents[best]) else contents[best]


def _button(piece: Piece) -> bool:
    """Whether it is a box with little in it."""
    return (
        piece.area > 1.5 * piece.mask.sum()
        and min(piece.width, piece.height) > 0.3 * max(piece.width, piece.height)
        and rectangular(outline_of(piece), 0.9)
    )


def without_lines(pieces: list[Piece]) -> list[Piece]:
    """Remove thin straight lines that cross most of the picture."""
    if not pieces:
        return pieces
    mask = np.logical_or.reduce([piece.mask for piece in pieces])
    height, width = mask.shape
    lines = np.zeros_like(mask)
    for kernel, across in (
        (box(int(0.6 * width), 1), box(1, max(2, height // 40))),
        (box(1, int(0.6 * height)), box(max(2, width // 40), 1)),
    ):
        runs = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
        thick = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, across)
        lines |= (runs > 0) & (thick == 0)
    if not lines.any():
        return pieces
    return split(mask & ~lines)


def without_edges(pieces: list[Piece], shape: tuple[int, ...]) -> list[Piece]:
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


def without_underlines(pieces: list[Piece]) -> list[Piece]:
    """Leave out flat lines below everything else."""
    kept = []
    for piece in pieces:
        others = [other for other in pieces if other is not piece]
        tallest = max(others, key=lambda other: other.height, default=piece)
        under = min(piece.right, tallest.right) - max(piece.left, tallest.left)
        flat = piece.height < 0.25 * piece.width and under > 0.8 * tallest.width
        below = piece.top > tallest.top + 0.8 * tallest.height
        if not (flat and below):
            kept.append(piece)
    return kept
