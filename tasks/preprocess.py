"""Preprocess: turn images and labels into inputs and targets of the network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.data.dataset import Dataset


@dataclass(frozen=True)
class Examples:
    """Inputs and targets of the network, row by row.

    All at once they would take five times the memory of pixels and labels, so training makes them
    batch by batch.

    Args:
        pixels: uint8, shape (n, 784); 0 is paper, 255 is ink.
        labels: Integers, shape (n,), 0 to 9.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> "Examples":
        return Examples(self.pixels[rows], self.labels[rows])

    @property
    def inputs(self) -> NDArray[np.float32]:
        """float32, shape (n, 784), in [0, 1]."""
        inputs = self.pixels.astype(np.float32)
        inputs /= 255
        return inputs

    @property
    def targets(self) -> NDArray[np.float32]:
        """float32, shape (n, 10), one-hot."""
        return np.eye(10, dtype=np.float32)[self.labels]


@task(cache_policy=NO_CACHE)
def preprocess(dataset: Dataset) -> tuple[Examples, Examples]:
    """Flatten the images to training and test examples, in the dataset's order.

    Scaling and one-hot encoding wait until a batch is used.
    """
    return (
        Examples(dataset.train_images.reshape(-1, 784), dataset.train_labels),
        Examples(dataset.test_images.reshape(-1, 784), dataset.test_labels),
    )
