"""Validate: refuse data that the network must not be trained on."""

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.errors import InvalidDataError
from tasks.load import Dataset


@task(cache_policy=NO_CACHE)
def validate(dataset: Dataset) -> None:
    """Check what training takes for granted; nothing is dropped or mended.

    Raises:
        InvalidDataError: If dtype, shape, count or labels are not as Dataset says.
    """
    _check_part("training", dataset.train_images, dataset.train_labels)
    _check_part("test", dataset.test_images, dataset.test_labels)


def _check_part(part: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise InvalidDataError(
            f"{part} images: expected uint8 of shape (n, 28, 28),"
            f" received {images.dtype} of shape {images.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise InvalidDataError(
            f"{part} labels: expected integers of shape (n,),"
            f" received {labels.dtype} of shape {labels.shape}"
        )
    if len(images) != len(labels):
        raise InvalidDataError(
            f"{part} set: expected as many labels as images,"
            f" received {len(images)} images and {len(labels)} labels"
        )
    if len(images) == 0:
        raise InvalidDataError(f"{part} set: expected at least one image, received none")
    if labels.min() < 0 or labels.max() > 9:
        raise InvalidDataError(
            f"{part} labels: expected digits from 0 to 9,"
            f" received values from {labels.min()} to {labels.max()}"
        )
