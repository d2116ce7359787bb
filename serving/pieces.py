"""Connected pieces of ink."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from serving.ink import Mask

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


def split(mask: Mask) -> list[Piece]:
    """The largest connected pieces of a mask."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    least = 3 if mask.size >= 4000 else 0
    largest = [at for at in np.argsort(-areas, kind="stable")[:MAX_PIECES] if areas[at] > least]
    return [Piece(labels == at + 1, *map(int, stats[at + 1, :4])) for at in sorted(largest)]


def together(masks: list[Mask]) -> Piece:
    """One piece of all this ink."""
    mask = np.logical_or.reduce(masks)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    width, height = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
    return Piece(mask, int(columns[0]), int(rows[0]), width, height)


def outline_of(piece: Piece) -> NDArray[np.int32]:
    """Its longest outline, as OpenCV has them: shape (points, 1, 2), x and y."""
    contours, _ = cv2.findContours(
        piece.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return np.asarray(max(contours, key=cv2.contourArea), np.int32)


def stroke_of(mask: Mask) -> float:
    """The width of the strokes in pixels: twice their area over the length of their outline."""
    padded = np.pad(mask, 1)
    outline = int((padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum())
    return 2 * float(mask.sum()) / max(outline, 1)


def rectangular(outline: NDArray[np.int32], least: float) -> bool:
    """Whether an outline fills its smallest rectangle, holes included."""
    _, (width, height), _ = cv2.minAreaRect(outline)
    return float(cv2.contourArea(outline)) > least * width * height


def encloses(frame: Piece, piece: Piece) -> bool:
    """Whether the piece lies inside the box of the frame, and inside its outline."""
    if not (
        frame.left < piece.left
        and piece.right < frame.right
        and frame.top < piece.top
        and piece.bottom < frame.bottom
    ):
        return False
    x, y = outline_of(piece)[0, 0].tolist()
    return cv2.pointPolygonTest(outline_of(frame), (x, y), measureDist=False) > 0
