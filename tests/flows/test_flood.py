"""Corrections that are to turn the model, and honest ones, through the flow, on real digits."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchmarks.drawn import barred, hooked
from flows.retrain import retrain
from serving.champion import load_champion
from storage.models.classifier import Classifier
from storage.models.store import open_store
from storage.settings import read_settings
from storage.tables.corrections import Corrections
from storage.tables.database import open_database
from tasks.load import load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


def night(seed: int) -> str:
    """As the deployment starts it: the recipe is the champion's."""
    gate = {"min_accuracy": 0.8, "min_recall": 0.5, "champion_rule": "non-inferior", "margin": 20}
    return retrain(dataset="mnist-5k", corrections=True, seed=seed, **gate, return_state=True).name


def drawn(draw: Callable, images: np.ndarray) -> np.ndarray:
    return np.stack([draw(image) for image in images])


def right(champion: Classifier, images: np.ndarray, digit: int) -> int:
    return int((champion.probabilities(images).argmax(axis=1) == digit).sum())


def test_a_flood_is_held_and_does_no_harm_and_an_honest_person_is_learnt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path))
    settings = read_settings()
    data = load.fn("mnist-5k")
    sevens = drawn(barred, data.test_images[data.test_labels == 7])
    ones = drawn(hooked, data.test_images[data.test_labels == 1])
    table = Corrections(open_database(settings.database_url), "mnist-5k")

    def champion() -> Classifier:
        return load_champion(open_store(settings, "mnist-5k")).classifier

    retrain(dataset="mnist-5k", architecture="cnn", epochs=4, seed=0, min_accuracy=0.8)
    before = champion()
    flood = drawn(barred, data.train_images[data.train_labels == 7])
    probabilities = before.probabilities(flood)
    sure = (probabilities.argmax(axis=1) == 7) & (probabilities.max(axis=1) > 0.9)
    table.add(flood[sure][:100], [1] * min(100, sure.sum()), actor="eve")
    night(1)
    assert {row.state for row in table.all()} == {"held"}
    after = right(champion(), sevens, 7)
    assert after >= right(before, sevens, 7) - 5

    honest = drawn(hooked, data.train_images[data.train_labels == 1])
    probabilities = champion().probabilities(honest)
    doubtful = (probabilities.argmax(axis=1) != 1) | (probabilities.max(axis=1) < 0.9)
    table.add(honest[doubtful][:100], [1] * min(100, doubtful.sum()), actor="anna")
    version, seed = champion().version.name, 1
    while champion().version.name == version and seed < 6:
        seed += 1
        night(seed)
    states = {(row.actor, row.state) for row in table.all()}
    assert states == {("eve", "held"), ("anna", "learnt"), ("anna", "measured")}
    print(right(before, ones, 1), right(champion(), ones, 1), right(before, sevens, 7), after)
    assert right(champion(), ones, 1) >= right(before, ones, 1) + 10
    assert right(champion(), sevens, 7) >= after - 5
    with closing(sqlite3.connect(tmp_path / "metrics.db")) as sql:
        recipes = set(sql.execute("SELECT architecture, epochs FROM runs"))
        held = set(sql.execute("SELECT corrections_held, held_actors FROM runs"))
    assert recipes == {("cnn", 4)}
    assert (table.all()[0].learnt_by, held) == (None, {(None, None), (100, '{"eve": 100}')})
