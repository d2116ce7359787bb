"""Real digits, networks trained on a few of them, runs that store them, and IDX files."""

import gzip
import itertools
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine

from storage.models.backends import LocalFolder
from storage.models.store import ModelStore, open_store
from storage.recipe import Recipe
from storage.records import Evaluation
from storage.settings import Settings
from tasks.build import build
from tasks.data.dataset import Dataset, digest
from tasks.data.idx import FILES, IMAGES_MAGIC, LABELS_MAGIC
from tasks.evaluate import evaluate
from tasks.load import load
from tasks.preprocess import Examples, preprocess
from tasks.stage import Candidate, stage
from tasks.train import LearningCurve, train


@dataclass(frozen=True)
class Trained:
    """A network, what it was trained with, and what came of it."""

    recipe: Recipe
    training: Examples
    dataset: Dataset
    test: Examples
    model: Any
    curve: LearningCurve
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


def train_few(recipe: Recipe, mnist_5k: Dataset, few: Dataset) -> Trained:
    training, _ = preprocess.fn(few)
    _, test = preprocess.fn(mnist_5k)
    model = build.fn(recipe)
    curve = train.fn(model, training, recipe).curve
    return Trained(recipe, training, mnist_5k, test, model, curve, evaluate.fn(model, test))


@pytest.fixture(scope="session")
def mlp(new_recipe: Callable[..., Recipe], mnist_5k: Dataset, few: Dataset) -> Trained:
    """A network that was trained on 360 images and measured on 1,000 others."""
    return train_few(new_recipe(architecture="mlp", epochs=3, batch_size=50), mnist_5k, few)


@pytest.fixture(scope="session")
def cnn(new_recipe: Callable[..., Recipe], mnist_5k: Dataset, few: Dataset) -> Trained:
    """Likewise, of the other architecture."""
    return train_few(new_recipe(architecture="cnn", epochs=3, batch_size=50), mnist_5k, few)


@pytest.fixture(scope="session", params=["mlp", "cnn"])
def trained(request: pytest.FixtureRequest) -> Trained:
    """Of each architecture one network."""
    made: Trained = request.getfixturevalue(request.param)
    return made


@dataclass(frozen=True)
class Stored:
    """A network whose files were written once, to be staged again in any run."""

    folder: Path
    weights_digest: str
    evaluation: Evaluation
    answers: NDArray[np.intp]


@pytest.fixture(scope="session")
def stored(mlp: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stored]:
    """Real networks of different worth: good, rough (the same with noise on it) and poor."""
    import keras

    made = {}
    for number, (name, noise) in enumerate({"good": 0.0, "rough": 0.05, "poor": 0.08}.items()):
        model = keras.models.clone_model(mlp.model)
        random = np.random.default_rng(number)
        weights = [w + random.normal(0, noise, w.shape) for w in mlp.model.get_weights()]
        model.set_weights(weights)
        store = ModelStore(LocalFolder(tmp_path_factory.mktemp(name)), "mine")
        candidate = stage.fn(store, name, model, mlp.dataset, {})
        evaluation = evaluate.fn(model, mlp.test)
        answers = model.predict(mlp.test.inputs, verbose=0).argmax(axis=1)
        folder = store.candidate(name)
        made[name] = Stored(folder, candidate.weights_digest, evaluation, answers)
    assert made["good"].evaluation.correct > made["rough"].evaluation.correct
    assert made["rough"].evaluation.correct > made["poor"].evaluation.correct
    return made


@dataclass(frozen=True)
class Challenge:
    """A candidate in a store, as it is before the comparison."""

    recipe: Recipe
    store: ModelStore
    candidate: Candidate

    @property
    def id(self) -> str:
        return self.candidate.run_id

    @property
    def folder(self) -> Path:
        return self.store.candidate(self.id)


@pytest.fixture
def challenge(
    settings: Settings,
    new_recipe: Callable[..., Recipe],
    mnist_5k: Dataset,
    stored: dict[str, Stored],
) -> Callable[..., Challenge]:
    """Stage one of ``stored`` as the candidate of a run."""
    numbers = itertools.count(1)

    def begin(name: str, run_id: str | None = None, **recipe: Any) -> Challenge:
        network = stored[name]
        usual = {"name": "mine", "min_accuracy": 0.1, "min_recall": 0.0}
        made = new_recipe(**{**usual, **recipe})
        store = open_store(settings, made.name)
        run_id = run_id or f"20261125-020000-{next(numbers):06x}"

        def write(folder: Path) -> None:
            for file in ("model.keras", "model.tflite", "golden.npz", "unsure.npz"):
                shutil.copy(network.folder / file, folder)

        origin = {
            "weights_digest": network.weights_digest,
            "test_digest": mnist_5k.test_digest,
            "test_correct": network.evaluation.correct,
            "test_total": network.evaluation.total,
        }
        manifest = store.stage(run_id, write, origin)
        return Challenge(made, store, Candidate(run_id, manifest, network.weights_digest))

    return begin


@pytest.fixture
def promoted(challenge: Callable[..., Challenge]) -> Callable[..., Challenge]:
    """Make one of ``stored`` the champion, whatever a gate would have said."""

    def begin(name: str, **recipe: Any) -> Challenge:
        made = challenge(name, **recipe)
        seen = made.store.champion()
        swap = made.store.promote(
            made.id, made.candidate.digest, seen, actor="test", reason="asked"
        )
        assert swap is not None
        return made

    return begin


@pytest.fixture
def sql(engine: Engine, settings: Settings) -> Iterator[sqlite3.Connection]:
    """A connection that knows nothing of ours; each statement is its own transaction."""
    with closing(sqlite3.connect(settings.home / "metrics.db", isolation_level=None)) as made:
        made.row_factory = sqlite3.Row
        yield made


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
