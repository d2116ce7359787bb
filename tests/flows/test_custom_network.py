"""Whole runs with a network of the user's own."""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flows.retrain import retrain

MODULE = """
import keras
from keras import layers


def wide(recipe):
    model = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(1024, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.Adam(recipe.learning_rate)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


class Mixed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(64, activation="relu")
        self.answer = layers.Dense(10, activation="softmax")

    def call(self, x):
        return self.answer(self.hidden(x))

    def train_step(self, data):
        x, y = data
        return super().train_step((0.9 * x + 0.1 * x[::-1], 0.9 * y + 0.1 * y[::-1]))


def mixed(recipe):
    model = Mixed()
    model.compile(keras.optimizers.Adam(recipe.learning_rate), "categorical_crossentropy")
    return model


def eleven(recipe):
    model = keras.Sequential([keras.Input((784,)), layers.Dense(11, activation="softmax")])
    model.compile("adam", "categorical_crossentropy")
    return model
"""


@pytest.fixture(autouse=True)
def mynets(tmp_path: Path) -> None:
    """The user's module, in the folder where the command is started."""
    (tmp_path / "mynets.py").write_text(MODULE)


def only_row(home: Path) -> sqlite3.Row:
    with closing(sqlite3.connect(home / "metrics.db")) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = connection.execute("SELECT * FROM runs")
    return row


@pytest.mark.slow
@pytest.mark.parametrize("network", ["wide", "mixed"])
def test_a_users_network_is_trained_promoted_and_named_by_row_and_manifest(
    network, digits, running_server, home
):
    architecture = f"mynets:{network}"
    done = digits(
        "retrain", "--dataset", "mnist-5k", "--architecture", architecture, "--epochs", "4",
        "--min-accuracy", "0.8", "--min-recall", "0.5", "--json",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    row = only_row(home)
    assert row["architecture"] == json.loads(done.stdout)["architecture"] == architecture
    manifest = home / "models/mnist-5k/versions" / row["run_id"] / "manifest.json"
    assert json.loads(manifest.read_text())["architecture"] == architecture


def test_a_network_that_cannot_be_imported_is_wrong_usage_before_anything_starts(digits, home):
    done = digits("retrain", "--dataset", "mnist-5k", "--architecture", "mynets:wider")

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: architecture: expected package.module:function, importable from")
    assert "has no attribute 'wider'" in line
    assert not home.exists()


@pytest.mark.usefixtures("prefect_server")
def test_a_model_of_another_shape_fails_the_run_in_one_line_before_any_training(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path / "var"))
    state = retrain(dataset="mnist-5k", architecture="mynets:eleven", return_state=True)
    sys.modules.pop("mynets", None)

    expected = "architecture mynets:eleven: expected an output of shape (10, 10)"
    row = only_row(tmp_path / "var")
    assert state.is_failed()
    assert state.message.startswith(expected)
    assert row["status"] == "failed"
    assert row["reason"].startswith(expected)
    assert row["train_loss"] is None
