import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.errors import TrainingDivergedError
from storage.provenance import Provenance
from storage.recipe import Recipe
from tasks.build import build
from tasks.data.dataset import Dataset
from tasks.preprocess import Examples, preprocess
from tasks.stage import weights_digest
from tasks.train import train
from tasks.training import checkpoint as checkpoints
from tasks.training.checkpoint import Checkpoint, interrupted
from tasks.training.fit import fit
from tasks.training.networks import architecture_of

FLOW_RUN = "0b6a1f0e-0000-4000-8000-000000000001"
PROVENANCE = Provenance("c0ffee", False, {"keras": "3"}, "here", {}, FLOW_RUN)


@pytest.fixture(scope="module")
def examples(few: Dataset) -> Examples:
    return preprocess.fn(few)[0][:130]


@pytest.fixture
def recipe(new_recipe: Callable[..., Recipe]) -> Recipe:
    return new_recipe(epochs=4, batch_size=50)


@pytest.fixture
def checkpoint(tmp_path: Path, recipe: Recipe, examples: Examples) -> Checkpoint:
    return Checkpoint(tmp_path, recipe, examples, PROVENANCE)


MODULE = """
import keras

def network(recipe):
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((784,)), *layers])
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    return model
"""


@pytest.fixture
def mynets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A network of the user's in the working directory."""
    (tmp_path / "mynets.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    sys.modules.pop("mynets", None)


class PowerCutError(Exception):
    """Stands for a kill during the training."""


def interrupt(checkpoint: Checkpoint, after: int) -> None:
    """Train until some epochs are behind it and written."""
    recipe, examples = checkpoint.recipe, checkpoint.examples
    model, epochs, architecture = build.fn(recipe), [], architecture_of(recipe)
    architecture.set_schedule(model, recipe, len(examples))

    def on_epoch_end(loss: float, accuracy: float) -> None:
        epochs.append({"loss": loss, "accuracy": accuracy, "duration_s": 1.0})
        checkpoint.save(model, epochs)
        if len(epochs) == after:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        fit(
            model, examples, epochs=recipe.epochs, batch_size=50, seed=7,
            on_epoch_end=on_epoch_end, augment=architecture.augment(7),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "after"),
    [
        ("mlp", 1),
        ("mlp", 4),
        ("cnn", 3),  # dropout's random state goes on too
        pytest.param("convnet", 2, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_training_goes_on_and_ends_with_the_weights_of_an_undisturbed_one(
    recipe: Recipe, examples: Examples, checkpoint: Checkpoint, architecture: str, after: int
) -> None:
    recipe = replace(recipe, architecture=architecture)
    checkpoint = replace(checkpoint, recipe=recipe)
    whole = train.fn(build.fn(recipe), examples, recipe)
    interrupt(checkpoint, after)
    resumed = train.fn(build.fn(recipe), examples, recipe, checkpoint=checkpoint)
    assert weights_digest(resumed.model) == weights_digest(whole.model)
    losses = [[epoch.loss for epoch in made.curve.epochs] for made in (whole, resumed)]
    assert losses[0] == losses[1]


def test_only_the_same_recipe_data_and_code_go_on(recipe: Recipe, checkpoint: Checkpoint) -> None:
    interrupt(checkpoint, 2)
    fewer = replace(checkpoint, examples=checkpoint.examples[:100])
    others = [
        replace(recipe, seed=8), replace(recipe, epochs=5), replace(recipe, learning_rate=0.002),
        replace(recipe, batch_size=10), replace(recipe, name="other"),
    ]  # fmt: skip
    codes = [
        replace(PROVENANCE, code_commit="f00d"), replace(PROVENANCE, code_dirty=True),
        replace(PROVENANCE, versions={"keras": "4"}),
    ]  # fmt: skip
    changed = [replace(checkpoint, recipe=other) for other in others]
    changed += [replace(checkpoint, provenance=other) for other in codes]
    for other in (fewer, *changed):
        assert other.restore(build.fn(other.recipe)) == []
    repeated = replace(PROVENANCE, flow_run_id=None)
    same_again = replace(checkpoint, provenance=repeated, recipe=replace(recipe, min_accuracy=0.1))
    assert len(same_again.restore(build.fn(recipe))) == 2


def test_a_retried_flow_run_finds_what_it_has_begun(checkpoint: Checkpoint) -> None:
    assert interrupted(checkpoint.home, FLOW_RUN) == {}
    interrupt(checkpoint, 2)
    assert interrupted(checkpoint.home, FLOW_RUN) == {
        "architecture": "mlp", "epochs": 4, "batch_size": 50, "learning_rate": 0.001, "seed": 7,
        "max_minutes": 0,
    }  # fmt: skip
    assert interrupted(checkpoint.home, None) == {}
    assert interrupted(checkpoint.home, FLOW_RUN.replace("1", "2")) == {}
    checkpoint.remove()
    assert interrupted(checkpoint.home, FLOW_RUN) == {}
    assert not list((checkpoint.home / "checkpoints").iterdir())


@pytest.mark.parametrize("damage", ["cut off", "empty", "not a checkpoint", "another network's"])
def test_a_checkpoint_that_does_not_fit_is_a_warning_and_the_training_begins_anew(
    recipe: Recipe, checkpoint: Checkpoint, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(checkpoint, 2)
    (path,) = checkpoint.home.glob("checkpoints/*/training.npz")
    content = path.read_bytes()
    if damage == "another network's":
        with np.load(path) as file:
            np.savez(path, about=file["about"], arr_0=np.zeros(3))
    else:
        cut = {"cut off": content[: len(content) // 2], "empty": b""}
        path.write_bytes(cut.get(damage, b"no archive"))
    model = build.fn(recipe)
    before = weights_digest(model)
    assert checkpoint.restore(model) == []
    assert weights_digest(model) == before
    assert "checkpoint" in caplog.text


def test_a_full_disk_is_a_warning_and_the_training_goes_on(
    recipe: Recipe, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    (checkpoint.home / "checkpoints").write_text("a file where the folder should be")
    checkpoint.save(build.fn(recipe), [])
    assert "no checkpoint was written, the training goes on" in caplog.text


def test_a_checkpoint_that_was_not_used_for_a_week_is_removed(
    recipe: Recipe, checkpoint: Checkpoint
) -> None:
    interrupt(checkpoint, 1)
    (path,) = checkpoint.home.glob("checkpoints/*/training.npz")
    for days, left in ((6.9, 2), (7.1, 1)):
        os.utime(path.parent, (then := time.time() - days * 24 * 3600, then))
        other = replace(checkpoint, recipe=replace(recipe, seed=9))
        other.save(build.fn(recipe), [])
        assert len(list((checkpoint.home / "checkpoints").iterdir())) == left


def test_a_training_that_diverged_is_not_gone_on_with(
    recipe: Recipe, checkpoint: Checkpoint
) -> None:
    interrupt(checkpoint, 2)
    model = build.fn(recipe)
    pixels = checkpoint.examples.pixels.astype(np.float32)
    pixels[77, 400] = np.nan
    with pytest.raises(TrainingDivergedError):
        train.fn(model, replace(checkpoint.examples, pixels=pixels), recipe, None, checkpoint)
    assert not list((checkpoint.home / "checkpoints").iterdir())


@pytest.mark.usefixtures("mynets")
def test_a_changed_network_of_the_users_begins_anew(
    recipe: Recipe, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    checkpoint = replace(checkpoint, recipe=replace(recipe, architecture="mynets:network"))
    interrupt(checkpoint, 2)
    same = replace(checkpoint)
    assert len(same.restore(build.fn(same.recipe))) == 2
    (tmp_path / "mynets.py").write_text(MODULE.replace("relu", "tanh"))
    changed = replace(checkpoint)
    assert changed.restore(build.fn(changed.recipe)) == []


def test_a_short_training_writes_no_checkpoint_and_a_long_one_does(
    recipe: Recipe,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    train.fn(build.fn(recipe), checkpoint.examples, recipe, checkpoint=checkpoint)
    assert not (checkpoint.home / "checkpoints").exists()
    monkeypatch.setattr(checkpoints, "EVERY_S", 0)
    train.fn(build.fn(recipe), checkpoint.examples, recipe, checkpoint=checkpoint)
    assert len(checkpoint.restore(build.fn(recipe))) == 4
    assert "the training goes on after epoch 4 of 4" in caplog.text
