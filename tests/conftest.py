"""What the tests of more than one layer share."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sqlalchemy import Engine

from storage.recipe import Recipe
from storage.settings import Settings, read_settings
from storage.tables.database import open_database

PROJECT = Path(__file__).resolve().parents[1]

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# How long one example takes says more of the machine than of the code.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

AtOnce = Callable[[str, str, Sequence[Sequence[object]]], list[str]]


@pytest.fixture(scope="session")
def new_recipe() -> Callable[..., Recipe]:
    """A valid recipe, with the values that the test cares for replaced."""

    def make(**values: Any) -> Recipe:
        usual = {
            "dataset": "mnist-5k",
            "name": "mnist-5k",
            "epochs": 2,
            "batch_size": 100,
            "learning_rate": 0.001,
            "seed": 7,
            "min_accuracy": 0.5,
            "min_recall": 0.8,
        }
        return Recipe(**{**usual, **values})

    return make


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Everything in a folder of the test's own."""
    return read_settings({"DIGITS_HOME": str(tmp_path / "home")})


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """The metrics database of ``settings``, made."""
    made = open_database(settings.database_url)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """A folder with the four files of MNIST, which the repository does not hold."""
    told = os.environ.get("DIGITS_TEST_MNIST")
    folder = Path(told) if told else PROJECT.parent / "shared" / "data" / "mnist"
    if not folder.is_dir():
        pytest.skip(f"MNIST's files are not in {folder}; name their folder in DIGITS_TEST_MNIST")
    return folder


@pytest.fixture
def at_once(tmp_path: Path) -> AtOnce:
    """Run a program in several new processes whose work begins at the same moment.

    The first text is what each of them does before all of them are ready (its imports), the
    second the work, the third gives each its arguments. What each printed comes back; an exit
    code other than 0 fails the test with what the process said.
    """

    def run(prepare: str, work: str, arguments: Sequence[Sequence[object]]) -> list[str]:
        program = f"import sys\n{prepare}\nprint('ready', flush=True)\nsys.stdin.readline()\n{work}"
        with ExitStack() as stack:
            processes = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-c", program, *map(str, own)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                        cwd=tmp_path,
                    )
                )
                for own in arguments
            ]
            for process in processes:
                stack.callback(process.kill)
            for process in processes:
                if process.stdout.readline() != "ready\n":
                    pytest.fail(process.stderr.read())
            for process in processes:
                process.stdin.write("go\n")
                process.stdin.flush()
            answers = [process.communicate(timeout=600) for process in processes]
            for process, (_, complaint) in zip(processes, answers, strict=True):
                assert process.returncode == 0, complaint
        return [printed for printed, _ in answers]

    return run


Write = Callable[[Path], None]


@pytest.fixture(scope="session")
def tiny_model(tiny_models: Callable[[int], Write]) -> Write:
    """Write the smallest real model into a folder: model.tflite and its golden batch."""
    return tiny_models(0)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Write]:
    """By a seed: write the smallest real model, with weights of its own, into a folder."""
    import keras
    import numpy as np

    made: dict[int, Path] = {}

    def make(seed: int) -> Path:
        folder = tmp_path_factory.mktemp("tiny")
        keras.utils.set_random_seed(seed)
        pixels = keras.Input((28, 28), dtype="uint8")
        pooled = keras.layers.AveragePooling2D(14)(
            keras.layers.Reshape((28, 28, 1))(keras.layers.Rescaling(1 / 255)(pixels))
        )
        answers = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(pooled))
        model = keras.Model(pixels, answers)
        model.export(folder / "model.tflite", format="litert", verbose=False)
        images = np.random.default_rng(0).integers(0, 256, (2, 28, 28)).astype(np.uint8)
        probabilities = model.predict(images, verbose=0)
        np.savez(folder / "golden.npz", images=images, probabilities=probabilities)
        return folder

    def of(seed: int) -> Write:
        if seed not in made:
            made[seed] = make(seed)

        def write(folder: Path) -> None:
            for path in made[seed].iterdir():
                shutil.copy(path, folder)

        return write

    return of


@pytest.fixture
def release_home(tmp_path: Path) -> Path:
    """DIGITS_HOME as the release of commit 7107ce4 left it; its dataset ``fonts`` is beside it."""
    with tarfile.open(PROJECT / "tests" / "fixtures" / "release_7107ce4.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "var"
