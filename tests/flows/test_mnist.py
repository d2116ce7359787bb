"""All of MNIST: the seed recipe with five seeds, and the gate's decisions; minutes long."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.retrain import retrain
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
from tasks.data.dataset import Dataset
from tasks.data.idx import FILES
from tasks.load import load

pytestmark = pytest.mark.usefixtures("prefect_server")


def count_right(path, images, labels):
    """Recount from the stored file alone."""
    if path.suffix == ".keras":
        import keras

        inputs = images.reshape(-1, 784).astype(np.float32) / 255
        answers = keras.models.load_model(path).predict(inputs, batch_size=500, verbose=0)
    else:
        from ai_edge_litert.interpreter import Interpreter

        model = Interpreter(str(path))
        (given,), (taken,) = model.get_input_details(), model.get_output_details()
        model.resize_tensor_input(given["index"], images.shape)
        model.allocate_tensors()
        model.set_tensor(given["index"], images)
        model.invoke()
        answers = model.get_tensor(taken["index"])
    return int((answers.argmax(axis=1) == labels).sum())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_seed_recipe_lands_where_it_should_with_five_seeds(tmp_path, monkeypatch, mnist_folder):
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path))
    data = load.fn(str(mnist_folder))

    for seed in range(5):
        # Of each seed a champion of its own: another seed's may be better by chance.
        usual = {"dataset": str(mnist_folder), "name": f"seed-{seed}", "seed": seed}
        store = ModelStore(LocalFolder(tmp_path / "models"), f"seed-{seed}")
        promoted = retrain(**usual, min_accuracy=0.97, return_state=True)
        champion = store.champion()
        assert promoted.name == "Promoted", seed
        assert champion.generation == 1
        (first,) = rows_of(tmp_path, seed)
        assert first["status"] == "promoted"
        assert 0.975 <= first["test_accuracy"] <= 0.987, seed
        assert 0 < first["test_loss"] < 0.2
        assert first["test_total"] == 10_000
        folder = store.version(champion.version)
        for file in ("model.keras", "model.tflite"):
            right = count_right(folder / file, data.test_images, data.test_labels)
            assert right == first["test_correct"], file
        print(f"seed {seed}: {first['test_correct']} of 10,000, loss {first['test_loss']:.4f}")

    rejected = retrain(**usual, min_accuracy=0.99, return_state=True)
    assert rejected.name == "Rejected"
    assert store.champion() == champion, "a rejected run leaves the champion as it was"
    first, second = rows_of(tmp_path, seed)
    assert (first["status"], second["status"]) == ("promoted", "rejected")
    assert first["weights_digest"] == second["weights_digest"], "same seed, same weights"


def rows_of(home: Path, seed: int) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        sql.row_factory = sqlite3.Row
        return sql.execute(
            "SELECT * FROM runs WHERE seed = ? ORDER BY started_at", [seed]
        ).fetchall()


def idx_folder(folder: Path, data: Dataset, pick: Any, labels: Any) -> str:
    """All of MNIST's test set, with some of its training images and these labels for them."""
    folder.mkdir()
    arrays = (data.train_images[pick], labels[pick], data.test_images, data.test_labels)
    for name, array in zip(FILES.values(), arrays, strict=True):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / name).write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())
    return str(folder)


def failed_rules(home: Path) -> tuple[str, list[str]]:
    """The newest run's status, and the names of the rules that speak against it."""
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        status, rules = sql.execute(
            "SELECT status, rules FROM runs ORDER BY started_at DESC LIMIT 1"
        ).fetchone()
    return status, [rule["name"] for rule in json.loads(rules) if not rule["passed"]]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_worse_an_equal_and_a_better_challenger_get_the_decision_that_they_deserve(
    tmp_path, monkeypatch, mnist_folder
):
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path))
    source = str(mnist_folder)
    usual = {"dataset": source, "name": "mnist", "min_accuracy": 0.9, "return_state": True}

    retrain(**usual, epochs=3, seed=1)
    assert failed_rules(tmp_path) == ("promoted", [])
    retrain(**usual, epochs=1, seed=2)
    assert failed_rules(tmp_path) == ("rejected", ["champion"]), "a worse one"
    retrain(**usual, epochs=3, seed=1, champion_rule="better")
    assert failed_rules(tmp_path) == ("rejected", ["champion"]), "an equal one is not better"
    retrain(**usual, epochs=3, seed=1)
    assert failed_rules(tmp_path) == ("promoted", []), "an equal one is not worse"
    retrain(**usual, epochs=2, architecture="cnn", seed=3, champion_rule="better")
    assert failed_rules(tmp_path) == ("promoted", []), "a better one"

    with closing(sqlite3.connect(tmp_path / "metrics.db")) as sql:
        for row in sql.execute(
            "SELECT status, champion_rule, test_correct, champion_correct,"
            " only_challenger_correct, only_champion_correct, test_uses FROM runs"
        ):
            print(row)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_challenger_that_is_better_but_blind_to_one_digit_is_rejected_for_that(
    tmp_path, monkeypatch, mnist_folder
):
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path / "home"))
    data = load.fn(str(mnist_folder))
    few = idx_folder(tmp_path / "few", data, np.arange(600), data.train_labels)
    # A labelling error that the data check lets pass: three of four nines are called 4.
    wrong = data.train_labels.copy()
    nines = np.flatnonzero(wrong == 9)
    wrong[nines[np.arange(len(nines)) % 4 > 0]] = 4
    blind = idx_folder(tmp_path / "blind", data, np.arange(60_000), wrong)
    usual = {"name": "mnist", "min_accuracy": 0.7, "return_state": True, "max_drift": 0.3}

    retrain(dataset=few, epochs=5, seed=1, min_recall=0.0, **usual)
    assert failed_rules(tmp_path / "home") == ("promoted", [])
    retrain(dataset=blind, epochs=3, seed=1, **usual)
    assert failed_rules(tmp_path / "home") == ("rejected", ["reference", "digit recall"])

    with closing(sqlite3.connect(tmp_path / "home/metrics.db")) as sql:
        champion, challenger = sql.execute(
            "SELECT test_correct, rules, label_drift FROM runs ORDER BY started_at"
        ).fetchall()
    assert challenger[0] > champion[0], "it gets more right in all"
    print(champion[0], challenger[0], challenger[2], json.loads(challenger[1])[2])
