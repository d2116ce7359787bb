"""Dataset: the images and labels a run works on, and the digest of their content."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """Images and labels as loaded.

    Args:
        train_images: uint8, shape (n, 28, 28); 0 is paper, 255 is ink.
        train_labels: uint8, shape (n,), 0 to 9.
        test_images: Like train_images, shape (m, 28, 28).
        test_labels: Like train_labels, shape (m,).
        digest: SHA-256 of dtype, shape and content of the four arrays, hexadecimal.
        field_images: Like train_images, shape (k, 28, 28): the field set, corrections that are
            never trained on and that the gate scores.
        field_labels: Like train_labels, shape (k,).
        field_actors: Text, shape (k,): the person who sent each image of the field set.
        not_digits: Like train_images, shape (j, 28, 28): corrections that say that an image is
            not a digit. They are never trained on, only measured.
        corrections: How many of the training images, the last ones, are corrections.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    digest: str
    field_images: NDArray[np.uint8] = field(
        default_factory=lambda: np.empty((0, 28, 28), dtype=np.uint8)
    )
    field_labels: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))
    field_actors: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=np.str_))
    not_digits: NDArray[np.uint8] = field(
        default_factory=lambda: np.empty((0, 28, 28), dtype=np.uint8)
    )
    corrections: int = 0

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``."""
        return {"data_digest": self.digest, "train_total": len(self.train_images)}

    def sample(self, of_each_label: int) -> NDArray[np.intp]:
        """Indices of at most so many training images of each label, evenly; no corrections."""
        labels = self.train_labels[: len(self.train_labels) - self.corrections]
        chosen = [np.flatnonzero(labels == digit) for digit in range(10)]
        steps = [max(1, -(-len(indices) // of_each_label)) for indices in chosen]
        return np.concatenate([all_[::step] for all_, step in zip(chosen, steps, strict=True)])

    @cached_property
    def test_digest(self) -> str:
        """SHA-256 of the test images and labels, hexadecimal."""
        return digest(self.test_images, self.test_labels)


def digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 over dtype, shape and content of the arrays in order, hexadecimal."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
