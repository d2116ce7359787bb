"""A wrong world is no victory: labels that changed are refused, until a person accepts them."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.client.orchestration import get_client

from flows.retrain import retrain
from tasks.data.dataset import Dataset
from tasks.data.idx import FILES, write_images, write_labels
from tasks.load import load

pytestmark = pytest.mark.usefixtures("prefect_server")

Change = Callable[[Dataset], Dataset]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def honest() -> Dataset:
    """500 training and 500 test images of mnist-5k, the digits evenly."""
    data = load.fn("mnist-5k")
    return replace(
        data,
        train_images=data.train_images[::8],
        train_labels=data.train_labels[::8],
        test_images=data.test_images[::2],
        test_labels=data.test_labels[::2],
    )


def night(home: Path, data: Dataset, **parameters: Any) -> tuple[str, dict[str, Any]]:
    """Run the flow on this data, as a folder; its status and its rules by their names."""
    folder = home.parent / "data"
    folder.mkdir(exist_ok=True)
    for key, name in FILES.items():
        write = write_images if key.endswith("images") else write_labels
        write(folder / name, np.ascontiguousarray(getattr(data, key)).tobytes())
    usual = {"epochs": 8, "seed": 1, "min_accuracy": 0.5, "min_recall": 0.0}
    state = retrain(**{"dataset": str(folder), **usual, **parameters}, return_state=True)
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        status, rules, reason = sql.execute(
            "SELECT status, rules, reason FROM runs ORDER BY started_at DESC LIMIT 1"
        ).fetchone()
    assert state.message == reason
    return status, {rule["name"]: rule for rule in json.loads(rules)}


def with_labels(*, training: Any = None, test: Any = None) -> Change:
    """Give each digit the label at its place in these."""

    def change(data: Dataset) -> Dataset:
        return replace(
            data,
            train_labels=data.train_labels if training is None else training[data.train_labels],
            test_labels=data.test_labels if test is None else test[data.test_labels],
        )

    return change


def failed(rules: dict[str, Any]) -> list[str]:
    return [name for name, rule in rules.items() if not rule["passed"]]


SHIFTED = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 0], dtype=np.uint8)
EXCHANGED = np.array([0, 1, 2, 5, 4, 3, 6, 7, 8, 9], dtype=np.uint8)


def test_each_label_plus_one_is_rejected_though_the_new_model_has_more_right(
    home: Path, honest: Dataset
) -> None:
    status, rules = night(home, honest)
    assert (status, "reference" in rules) == ("promoted", False), "there is no record yet"

    status, rules = night(home, with_labels(training=SHIFTED, test=SHIFTED)(honest))
    assert (status, failed(rules)) == ("rejected", ["reference"])
    assert "labelled 1 read as 0" in rules["reference"]["measured"]
    assert rules["reference"]["required"].endswith("add --accept-change if the change is meant")


@pytest.mark.slow
def test_a_change_that_a_person_accepted_once_is_the_new_record(
    home: Path, honest: Dataset
) -> None:
    night(home, honest)
    shifted = with_labels(training=SHIFTED, test=SHIFTED)(honest)
    status, rules = night(home, shifted, accept_change=True)
    assert (status, failed(rules)) == ("promoted", [])
    assert rules["reference"]["measured"].endswith("; accepted as meant")

    status, rules = night(home, shifted)
    assert (status, failed(rules)) == ("promoted", []), "the new record is that of these labels"
    assert rules["reference"]["measured"].endswith(" on the same test set")


@pytest.mark.slow
def test_labels_exchanged_or_used_for_another_digit_are_rejected_and_announced(
    home: Path, honest: Dataset
) -> None:
    night(home, honest)
    rng = np.random.default_rng(0)

    def some_sevens_as_ones(labels: Any) -> Any:
        return np.where((labels == 7) & (rng.random(len(labels)) < 0.7), 1, labels)

    changes: dict[str, Change] = {
        "test images labelled 3 read as 5": with_labels(training=EXCHANGED, test=EXCHANGED),
        "training images labelled 3 read as 5": with_labels(training=EXCHANGED),
        "training images labelled 0 read as 9": with_labels(training=SHIFTED),
        "test images labelled 1 read as 7": lambda data: replace(
            data,
            train_labels=some_sevens_as_ones(data.train_labels).astype(np.uint8),
            test_labels=some_sevens_as_ones(data.test_labels).astype(np.uint8),
        ),
    }
    for said, change in changes.items():
        status, rules = night(home, change(honest))
        assert status == "rejected"
        assert "reference" in failed(rules), said
        assert said in rules["reference"]["measured"]
    payloads = events("data.changed", len(changes))
    assert all("reference: the champion has" in payload["reason"] for payload in payloads)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_of_mnist_with_each_label_plus_one_is_rejected(home: Path, mnist_folder: Path) -> None:
    honest = load.fn(str(mnist_folder))
    usual = {"epochs": 1, "min_accuracy": 0.9, "champion_rule": "better"}
    night(home, honest, **usual)
    shifted = with_labels(training=SHIFTED, test=SHIFTED)(honest)
    status, rules = night(home, shifted, **usual)
    assert (status, failed(rules)) == ("rejected", ["reference"])


def events(name: str, count: int) -> list[dict[str, Any]]:
    """The payloads of this event, once the server has so many of them."""
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while True:
            asked = {"filter": {"event": {"name": [name]}}}
            found = client._client.post("/events/filter", json=asked).json()["events"]
            if len(found) >= count or time.monotonic() > deadline:
                return [event["payload"] for event in found]
            time.sleep(0.5)
