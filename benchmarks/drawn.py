"""Digits as MNIST has few or none, drawn by program on MNIST's own: barred 7s and hooked 1s."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

FINER = 8  # strokes are drawn in so many times the size, for smooth edges
INK = 60

Point = tuple[float, float]


def barred(seven: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A 7, uint8 of shape (28, 28), with a short bar through its stem."""
    rows = np.flatnonzero((seven > INK).any(axis=1))
    y = rows[0] + 0.55 * (rows[-1] - rows[0])
    x = _middle(seven[round(y)])
    return _stroke(seven, (x - 3, y + 0.3), (x + 3, y - 0.3), width=1.2)


def hooked(one: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A 1, uint8 of shape (28, 28), with a long upstroke to the left of its top."""
    top = int(np.flatnonzero((one > INK).any(axis=1))[0])
    x = _middle(one[top + 1])
    return _stroke(one, (x, top + 1), (x - 10, top + 5), width=2.5)


def _middle(row: NDArray[np.uint8]) -> float:
    ink = np.flatnonzero(row > INK)
    return float(ink.mean()) + 0.5 if len(ink) else 14.0


def _stroke(
    image: NDArray[np.uint8], start: Point, end: Point, *, width: float
) -> NDArray[np.uint8]:
    canvas = Image.new("L", (28 * FINER, 28 * FINER))
    draw = ImageDraw.Draw(canvas)
    points = [(x * FINER, y * FINER) for x, y in (start, end)]
    half = width * FINER / 2
    draw.line(points, fill=255, width=round(2 * half))
    for x, y in points:
        draw.ellipse((x - half, y - half, x + half, y + half), fill=255)
    stroke = canvas.resize((28, 28), Image.Resampling.BOX)
    drawn: NDArray[np.uint8] = np.maximum(image, np.asarray(stroke))
    return drawn
