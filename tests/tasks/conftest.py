"""Real digits, a network trained on a few of them, and folders of IDX files."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.records import Evaluation, Recipe
from tasks.build import build
from tasks.evaluate import evaluate
from tasks.idx import FILES, IMAGES_MAGIC, LABELS_MAGIC
from tasks.load import Dataset, digest, load
from tasks.preprocess import Examples, preprocess
from tasks.train import Epoch, train


@dataclass(frozen=True)
class Trained:
    """A network, what it was trained with, and what came of it."""

    recipe: Recipe
    training: Examples
    dataset: Dataset
    test: Examples
    model: Any
    curve: list[Epoch]
    evaluation: Evaluation


@pytest.fixture(scope="session")
def mnist_5k() -> Dataset:
    return load.fn("mnist-5k")


@pytest.fixture(scope="session")
def few(mnist_5k: Dataset) -> Dataset:
    """360 training and 60 test images of mnist-5k, the digits evenly and in turns."""
    train_pick = np.arange(4000).reshape(10, 400)[:, :36].T.ravel()
    test_pick = np.arange(1000).reshape(10, 100)[:, :6].T.ravel()
    arrays = (
        mnist_5k.train_images[train_pick],
        mnist_5k.train_labels[train_pick],
        mnist_5k.test_images[test_pick],
        mnist_5k.test_labels[test_pick],
    )
    return Dataset(*arrays, digest=digest(*arrays))


@pytest.fixture(scope="session", params=["mlp", "cnn"])
def trained(
    request: pytest.FixtureRequest,
    new_recipe: Callable[..., Recipe],
    mnist_5k: Dataset,
    few: Dataset,
) -> Trained:
    """Of each architecture one network: trained on 360 images, measured on 1,000 others."""
    recipe = new_recipe(architecture=request.param, epochs=3, batch_size=50)
    training, _ = preprocess.fn(few)
    _, test = preprocess.fn(mnist_5k)
    model = build.fn(recipe)
    curve = train.fn(model, training, recipe)
    return Trained(recipe, training, mnist_5k, test, model, curve, evaluate.fn(model, test))


def idx(magic: int, array: NDArray[np.uint8]) -> bytes:
    """An IDX file, from the format's description: big-endian magic and sizes, then the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return magic.to_bytes(4, "big") + sizes + array.tobytes()


@pytest.fixture
def write_idx(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset as a folder of four IDX files, plain or compressed."""

    def write(dataset: Dataset, *, compressed: bool = False, name: str = "digits") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for key, file_name in FILES.items():
            magic = IMAGES_MAGIC if key.endswith("images") else LABELS_MAGIC
            content = idx(magic, getattr(dataset, key))
            if compressed:
                (folder / f"{file_name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / file_name).write_bytes(content)
        return folder

    return write
