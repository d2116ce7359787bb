"""The rule that tells which images may not be digits.

Images of one digit, blurred and shrunk to 15 x 15, lie near a few subspaces of 13 dimensions: ways
to write it. An image far from all subspaces of the digit that the network answers is unlike the
training images of that digit. docs/decisions.md says how the rule was chosen.
"""

import io
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

UNSURE = "unsure.npz"
SIDE = 15
WAYS, DIMENSIONS = 8, 13
# What doubt weighs unless a network has its own weight, and in rules of earlier releases.
DOUBT = 0.15


@dataclass(frozen=True)
class UnsureRule:
    """Parameters that were fitted on training images.

    Args:
        axes: float32, shape (10, 8, 13, 225): for each digit the subspaces, as orthonormal rows.
        limit: Distance, plus ``doubt`` times one minus the probability, above which an answer is
            unsure.
        doubt: What the network's own doubt weighs.
    """

    axes: NDArray[np.float32]
    limit: float
    doubt: float = DOUBT

    def score(self, image: NDArray[np.uint8], digit: int, probability: float) -> float:
        """Score an image and its answer; above 1, the answer is unsure.

        The distance is the ink outside the nearest subspace, squared, divided by the square root of
        all ink, squared. Ink is measured in shares of the darkest.

        Args:
            image: uint8, shape (28, 28); 0 is paper, 255 is ink.
            digit: The answer.
            probability: Of the answer.
        """
        pixels = shrink(image).ravel()
        within = np.dot(self.axes[digit].reshape(WAYS * DIMENSIONS, SIDE**2), pixels)
        parts = within.reshape(WAYS, DIMENSIONS)
        ink = float(np.dot(pixels, pixels))
        outside = ink - float(np.vecdot(parts, parts).max())
        distance = outside / (sqrt(ink) * float(image.max())) if ink else 0.0
        return (distance + self.doubt * (1 - probability)) / self.limit

    def scores(
        self, images: NDArray[np.uint8], probabilities: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Score images of shape (n, 28, 28) and their ten probabilities, of shape (n, 10).

        Each is scored on its own: a batch never changes a score.

        Returns:
            float64, shape (n,).
        """
        digits = probabilities.argmax(axis=1).tolist()
        largest = probabilities.max(axis=1).tolist()
        return np.array([*map(self.score, images, digits, largest)], np.float64)

    def content(self) -> bytes:
        """The rule as the bytes of an NPZ file."""
        file = io.BytesIO()
        np.savez(file, axes=self.axes, limit=self.limit, doubt=self.doubt)
        return file.getvalue()


def read_rule(content: bytes) -> UnsureRule | None:
    """Read what ``UnsureRule.content`` returns; None if it is a rule of another form.

    Raises:
        ValueError: If it is damaged.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        if set(file) - {"doubt"} != {"axes", "limit"}:
            return None
        axes, limit = file["axes"], file["limit"]
        doubt = file["doubt"] if "doubt" in file else np.float64(DOUBT)
    expected = (10, WAYS, DIMENSIONS, SIDE**2)
    if axes.shape != expected or axes.dtype != np.float32 or limit.shape or doubt.shape:
        raise ValueError(
            f"{UNSURE}: expected float32 of shape {expected} and two numbers,"
            f" received {axes.dtype} of shape {axes.shape}, {limit.shape} and {doubt.shape}"
        )
    return UnsureRule(axes, float(limit), float(doubt))


def shrink(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Blur images and shrink them to 15 x 15, so that a shift by a pixel changes little.

    Args:
        images: uint8, shape (28, 28) or (n, 28, 28).

    Returns:
        float32, shape (15, 15) or (n, 15, 15), in [0, 255].
    """
    shrunk: NDArray[np.float32] = SHRINK @ images.astype(np.float32) @ SHRINK.T
    return shrunk


def _shrinking() -> NDArray[np.float32]:
    """Each row blurs four neighbouring pixels into one; neighbours' rows overlap by two."""
    wide = np.zeros((SIDE, 2 * SIDE + 2), np.float32)
    for row in range(SIDE):
        wide[row, 2 * row : 2 * row + 4] = (0.125, 0.375, 0.375, 0.125)
    return np.ascontiguousarray(wide[:, 2:-2])


SHRINK = _shrinking()
