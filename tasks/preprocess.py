"""Preprocess: what the network takes in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.load import Dataset


@dataclass(frozen=True)
class Examples:
    """Inputs and targets of the network, row by row.

    Args:
        inputs: float32, shape (n, 784), in [0, 1].
        targets: float32, shape (n, 10), one-hot.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]


@task(cache_policy=NO_CACHE)
def preprocess(dataset: Dataset) -> tuple[Examples, Examples]:
    """Flatten and scale the images, one-hot encode the labels; order is kept.

    Args:
        dataset: Validated.

    Returns:
        The training and the test examples.
    """
    return (
        _examples(dataset.train_images, dataset.train_labels),
        _examples(dataset.test_images, dataset.test_labels),
    )


def _examples(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Examples:
    inputs = images.reshape(len(images), 784).astype(np.float32)
    inputs /= 255
    return Examples(inputs, np.eye(10, dtype=np.float32)[labels])
