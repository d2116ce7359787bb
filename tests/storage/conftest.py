"""Plain SQL beside the code that is tested: storage is checked from both sides."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from storage.runs import Runs
from storage.settings import Settings


@pytest.fixture
def runs(engine: Engine) -> Runs:
    return Runs(engine, lease_s=60.0)


@pytest.fixture
def sql(engine: Engine, settings: Settings) -> Iterator[sqlite3.Connection]:
    """A connection that knows nothing of ours; each statement is its own transaction."""
    with closing(sqlite3.connect(settings.home / "metrics.db", isolation_level=None)) as made:
        made.row_factory = sqlite3.Row
        yield made


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Write the smallest real model into a folder: model.tflite and its golden batch."""
    import keras
    import numpy as np

    made = tmp_path_factory.mktemp("tiny")
    pixels = keras.Input((28, 28), dtype="uint8")
    pooled = keras.layers.AveragePooling2D(14)(
        keras.layers.Reshape((28, 28, 1))(keras.layers.Rescaling(1 / 255)(pixels))
    )
    answers = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(pooled))
    model = keras.Model(pixels, answers)
    model.export(made / "model.tflite", format="litert", verbose=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28)).astype(np.uint8)
    probabilities = model.predict(images, verbose=0)
    np.savez(made / "golden.npz", images=images, probabilities=probabilities)

    def write(folder: Path) -> None:
        for path in made.iterdir():
            shutil.copy(path, folder)

    return write
