"""``digits retrain --like RUN``: a run repeated by its row."""

import json

import pytest

from storage.records import Status
from storage.tables.database import open_database
from storage.tables.runs import Runs
from tasks.data.sources import resolve

pytestmark = pytest.mark.usefixtures("running_server")
RECIPE = ["--dataset", "mnist-5k", "--epochs", "2", "--min-recall", "0", "--min-accuracy", "0.5"]


@pytest.mark.slow
def test_a_run_is_repeated_by_its_id_and_says_whether_the_weights_are_the_same(digits, home):
    assert digits("retrain", *RECIPE, "--seed", "5", "--name", "mine").returncode == 0
    (first,) = [run["run_id"] for run in json.loads(digits("history", "--json").stdout)]

    again = digits("retrain", "--like", first)
    other = digits("retrain", "--like", first, "--epochs", "1", "--json")

    assert again.returncode == 0, again.stderr
    assert f"The weights are identical to those of {first}, bit for bit." in again.stdout
    row = json.loads(other.stdout)
    assert (row["dataset"], row["seed"], row["epochs"]) == ("mine", 5, 1)
    assert f"The weights differ from those of {first}; changed since: epochs" in other.stderr
    rows = json.loads(digits("history", "--json").stdout)
    assert len({(row["dataset"], row["seed"], row["min_recall"]) for row in rows}) == 1
    for nobody in (["--like", "nobody"], ["--like", ""]):
        done = digits("retrain", *nobody)
        assert done.returncode == 1
        assert "expected the id of a run" in done.stderr


def test_a_run_without_weights_can_be_repeated_and_every_option_reaches_the_row(digits, home):
    home.mkdir()
    engine = open_database(f"sqlite:///{home / 'metrics.db'}")
    runs = Runs(engine, 60)
    first = runs.open(
        resolve(
            name="mine", dataset="mnist-5k", architecture="cnn", epochs=5, batch_size=200,
            learning_rate=0.002, seed=3, min_accuracy=0.1, min_recall=0.01,
            champion_rule="non-inferior", margin=4,
        ),
        versions={}, host="here",
    )  # fmt: skip
    runs.close(first, Status.FAILED, "no network")
    engine.dispose()

    done = digits(
        "retrain", "--like", first, "--architecture", "mlp", "--epochs", "2", "--confident",
        "--max-drift", "0.6", "--json",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert f"No weights to compare: {row['run_id']} or {first} stored none." in done.stderr
    given = {"architecture": "mlp", "epochs": 2, "confident": True, "max_drift": 0.6}
    taken = {"dataset": "mine", "source": "mnist-5k", "batch_size": 128, "learning_rate": 0.001}
    taken |= {"seed": 3, "min_accuracy": 0.1, "min_recall": 0.01}
    taken |= {"champion_rule": "non-inferior", "margin": 4}
    assert {name: row[name] for name in given | taken} == given | taken


@pytest.mark.slow
def test_replacing_the_dataset_of_a_run_also_replaces_its_dataset_defaults(digits, home):
    home.mkdir()
    engine = open_database(f"sqlite:///{home / 'metrics.db'}")
    runs = Runs(engine, 60)
    first = runs.open(
        resolve(
            name="mine", dataset="/nowhere", epochs=2, seed=3, min_accuracy=0.995,
            min_recall=0.99, champion_rule="non-inferior", margin=4,
        ),
        versions={}, host="here",
    )  # fmt: skip
    engine.dispose()

    done = digits(
        "retrain", "--like", first, "--dataset", "mnist-5k", "--champion-rule", "better",
        "--min-recall", "0", "--json",
    )  # fmt: skip

    assert done.returncode in {0, 3}, done.stderr
    row = json.loads(done.stdout)
    assert (row["dataset"], row["source"], row["epochs"]) == ("mnist-5k", "mnist-5k", 2)
    assert (row["min_accuracy"], row["min_recall"]) == (0.9, 0)
    assert (row["champion_rule"], row["margin"]) == ("better", 0)
