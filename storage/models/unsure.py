"""The rule that tells which images may be no digit.

Images of one digit lie near a subspace of 25 dimensions: their mean and largest principal
components. An image far from the subspace of the digit that the network answers is unlike the
training images of that digit. docs/decisions.md says how the rule was chosen.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNSURE = "unsure.npz"
DOUBT = 10.0


@dataclass(frozen=True)
class UnsureRule:
    """Parameters that were fitted on training images.

    Args:
        means: float32, shape (10, 784): each digit's mean image, in [0, 1].
        components: float32, shape (10, 25, 784): orthonormal rows.
        limit: Squared distance, plus DOUBT times one minus the probability, above which an
            answer is unsure.
    """

    means: NDArray[np.float32]
    components: NDArray[np.float32]
    limit: float

    def scores(
        self, images: NDArray[np.uint8], probabilities: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Score images of shape (n, 28, 28); above 1, the answer is unsure.

        Returns:
            float64, shape (n,).
        """
        inputs = images.reshape(len(images), 784).astype(np.float32) / np.float32(255)
        answers = probabilities.argmax(axis=1)
        scores: NDArray[np.float64] = DOUBT * (1 - probabilities.max(axis=1).astype(np.float64))
        for digit in np.unique(answers):
            chosen = answers == digit
            apart = inputs[chosen] - self.means[digit]
            within = apart @ self.components[digit].T
            scores[chosen] += (apart**2).sum(axis=1) - (within**2).sum(axis=1)
        scores /= self.limit
        return scores

    def content(self) -> bytes:
        """The rule as the bytes of an NPZ file."""
        file = io.BytesIO()
        np.savez(file, means=self.means, components=self.components, limit=self.limit)
        return file.getvalue()


def read_rule(content: bytes) -> UnsureRule:
    """Read what ``UnsureRule.content`` returns; raises KeyError or ValueError if it is not."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return UnsureRule(file["means"], file["components"], float(file["limit"]))
