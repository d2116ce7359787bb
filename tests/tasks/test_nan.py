"""NaN at each place where a metric is made: never promoted, never stored as a number.

The networks are real: one weight of them is NaN, or overflows where it meets a certain image.
"""

import math
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.models.store import open_store
from storage.recipe import Recipe
from storage.records import Decision, Evaluation, Pointer
from storage.settings import Settings
from tasks.build import build
from tasks.compare import compare
from tasks.data.dataset import Dataset, digest
from tasks.evaluate import evaluate
from tasks.gate import gate
from tasks.journal import Journal, journal
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.stage import Candidate, stage
from tasks.train import train


@pytest.fixture
def recipe(new_recipe: Callable[..., Recipe]) -> Recipe:
    """Nothing is asked for that a network of any worth would miss."""
    return new_recipe(name="mine", min_accuracy=0.0, min_recall=0.0)


@pytest.fixture(scope="module")
def marked(mnist_5k: Dataset, stored) -> Dataset:
    """A zero that is recognised has ink in the upper corners, where no digit ever has any."""
    images = mnist_5k.test_images.copy()
    zeros = (mnist_5k.test_labels == 0) & (stored["good"].answers == 0)
    assert not mnist_5k.train_images[:, 0, [0, 27]].any()
    assert not images[:, 0, [0, 27]].any()
    images[zeros.argmax(), 0, [0, 27]] = 255
    arrays = mnist_5k.train_images, mnist_5k.train_labels, images, mnist_5k.test_labels
    return Dataset(*arrays, digest=digest(*arrays))


@pytest.fixture(scope="module")
def networks(mlp) -> dict[str, Any]:
    """By what is wrong with them; what is not wrong is as it was trained."""
    import keras

    def changed(layer: int, where: Any, value: float) -> Any:
        model = keras.models.clone_model(mlp.model)
        weights = mlp.model.get_weights()
        weights[layer][where] = value
        model.set_weights(weights)
        return model

    return {
        "good": mlp.model,
        "a weight is NaN": changed(-2, (5, 3), math.nan),
        "a weight is infinite": changed(0, (400, 7), math.inf),
        # Ink in both corners adds up to more than a float32 holds; no other image has any.
        "the marked image overflows": changed(0, [0, 27], 3e38),
    }


def evaluated(model: Any, data: Dataset) -> Evaluation:
    _, test = preprocess.fn(data)
    return evaluate.fn(model, test)


def decided(
    run: Journal, recipe: Recipe, candidate: Candidate, data: Dataset, trained: Evaluation
) -> Decision:
    """The rest of the flow."""
    found = run.note(compare.fn(run.store, candidate, data, trained, recipe))
    decision = run.note(gate.fn(found, recipe))
    run.close(promote.fn(run.store, candidate, found.compared_with, decision))
    return decision


def staged(run: Journal, model: Any, data: Dataset) -> Candidate:
    return run.note(stage.fn(run.store, run.id, model, data, origin(data)))


def origin(data: Dataset, correct: int = 999) -> dict[str, object]:
    """What History needs to find the best champion so far."""
    return {"test_digest": data.test_digest, "test_correct": correct, "test_total": 1000}


def past_the_gate(
    recipe: Recipe, settings: Settings, model: Any, data: Dataset, correct: int = 999
) -> Pointer:
    """A champion that no gate has seen, as a release without one might have left it."""
    store = open_store(settings, recipe.name)
    seen = store.champion()
    run_id = f"20260101-00000{seen.generation if seen else 0}-abcdef"
    candidate = stage.fn(store, run_id, model, data, origin(data, correct))
    swap = store.promote(run_id, candidate.digest, seen, actor="test", reason="it was asked for")
    return swap.pointer


def row_of(sql: sqlite3.Connection, run: Journal) -> dict[str, Any]:
    """The row of a run, after each value of each row was seen to be finite, a text or nothing."""
    for row in sql.execute("SELECT * FROM runs"):
        for name, value in dict(row).items():
            assert not isinstance(value, float) or math.isfinite(value), name
            assert not isinstance(value, str) or value.lower() not in {"nan", "inf", "-inf"}, name
    found = sql.execute("SELECT * FROM runs WHERE run_id = ?", (run.id,)).fetchone()
    return dict(found)


@pytest.mark.parametrize("first", ["weights", "loss"])
def test_weights_and_the_loss_of_an_epoch_that_are_not_finite_end_the_run(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection, mlp, first: str
) -> None:
    model, examples = build.fn(recipe), mlp.training
    if first == "weights":  # an image that is NaN comes into them before the loss shows it
        pixels = examples.pixels.astype(np.float32)
        pixels[7, 5] = math.nan
        examples = replace(examples, pixels=pixels)
    else:
        model.compile("sgd", loss=lambda true, said: math.nan * (true - said))
    with journal(recipe, settings) as run:
        run.note(train.fn(model, examples, recipe))
    row = row_of(sql, run)
    assert row["status"] == "failed"
    assert row["reason"].startswith("expected finite loss and weights after epoch 1")
    assert (row["train_loss"], row["test_loss"]) == (None, None)
    assert run.store.champion() is None


@pytest.mark.parametrize("network", ["a weight is NaN", "a weight is infinite"])
def test_a_network_with_a_non_finite_weight_is_rejected_by_the_whole_chain(
    recipe: Recipe,
    settings: Settings,
    sql: sqlite3.Connection,
    mnist_5k: Dataset,
    networks: dict[str, Any],
    network: str,
) -> None:
    trained = evaluated(networks[network], mnist_5k)
    assert not math.isfinite(trained.loss)
    with journal(recipe, settings) as run:
        candidate = staged(run, networks[network], mnist_5k)
        decision = decided(run, recipe, candidate, mnist_5k, trained)
    failed = {rule.name for rule in decision.rules if not rule.passed}
    assert {"finite", "faithful"} <= failed
    row = row_of(sql, run)
    assert (row["status"], row["generation"]) == ("rejected", None)
    # LiteRT may pass over an infinite weight where Keras answers NaN: then its loss is a number.
    assert network == "a weight is infinite" or row["test_loss"] is None
    assert "golden batch within nan" in row["reason"]
    assert run.store.champion() is None


def test_a_single_nan_in_the_stored_models_answers_rejects_even_if_keras_has_none(
    recipe: Recipe,
    settings: Settings,
    sql: sqlite3.Connection,
    mnist_5k: Dataset,
    marked: Dataset,
    networks: dict[str, Any],
) -> None:
    network = networks["the marked image overflows"]
    trained = evaluated(network, mnist_5k)
    assert math.isfinite(trained.loss)
    with journal(recipe, settings) as run:
        candidate = staged(run, network, marked)
        decision = decided(run, recipe, candidate, marked, trained)
    # The zero's answer is NaN and counts as a zero: the count does not show it.
    assert [rule.name for rule in decision.rules if not rule.passed] == ["finite"]
    row = row_of(sql, run)
    assert (row["status"], row["test_loss"]) == ("rejected", None)


def test_a_single_nan_in_keras_answers_rejects_even_if_the_stored_model_has_none(
    recipe: Recipe,
    settings: Settings,
    sql: sqlite3.Connection,
    mnist_5k: Dataset,
    marked: Dataset,
    networks: dict[str, Any],
) -> None:
    network = networks["the marked image overflows"]
    trained = evaluated(network, marked)
    assert math.isnan(trained.loss)
    assert trained.correct == evaluated(network, mnist_5k).correct
    with journal(recipe, settings) as run:
        candidate = staged(run, network, mnist_5k)
        decision = decided(run, recipe, candidate, mnist_5k, trained)
    assert not decision.accepted
    assert row_of(sql, run)["status"] == "rejected"
    assert run.store.champion() is None


def test_a_golden_batch_that_holds_nan_rejects(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection, mnist_5k: Dataset, stored
) -> None:
    golden = dict(np.load(stored["good"].folder / "golden.npz"))
    golden["probabilities"][5, 5] = math.nan

    def write(folder: Path) -> None:
        for file in ("model.keras", "model.tflite"):
            shutil.copy(stored["good"].folder / file, folder)
        np.savez(folder / "golden.npz", **golden)

    with journal(recipe, settings) as run:
        digest = run.store.stage(run.id, write, {})
        candidate = Candidate(run.id, digest, stored["good"].weights_digest)
        decision = decided(run, recipe, candidate, mnist_5k, stored["good"].evaluation)
    assert "golden batch within nan" in decision.reason
    row = row_of(sql, run)
    assert row["status"] == "rejected"
    assert row["test_loss"] == pytest.approx(stored["good"].evaluation.loss, rel=1e-4)
    assert run.store.champion() is None


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("the marked image overflows", "its test loss is not finite"),
        ("a weight is NaN", "expected its golden batch within 0.0001"),
    ],
)
def test_a_champion_that_answers_nan_rejects_until_a_person_rolls_back(
    recipe: Recipe,
    settings: Settings,
    sql: sqlite3.Connection,
    mnist_5k: Dataset,
    marked: Dataset,
    networks: dict[str, Any],
    network: str,
    said: str,
) -> None:
    champion = past_the_gate(recipe, settings, networks[network], mnist_5k)
    trained = evaluated(networks["good"], marked)
    with journal(recipe, settings) as run:
        candidate = staged(run, networks["good"], marked)
        decision = decided(run, recipe, candidate, marked, trained)
    assert [rule.name for rule in decision.rules if not rule.passed] == ["champion"]
    row = row_of(sql, run)
    assert (row["status"], row["champion_version"]) == ("rejected", champion.version)
    counted = ("champion_correct", "only_challenger_correct", "only_champion_correct")
    assert [row[name] for name in counted] == [None, None, None]
    assert said in row["reason"]
    assert "`digits rollback`" in row["reason"]
    assert run.store.champion() == champion


def test_a_best_champion_that_answers_nan_rejects(
    recipe: Recipe,
    settings: Settings,
    sql: sqlite3.Connection,
    mnist_5k: Dataset,
    marked: Dataset,
    networks: dict[str, Any],
) -> None:
    anchored = replace(recipe, champion_rule="non-inferior", margin=1000)
    past_the_gate(recipe, settings, networks["the marked image overflows"], mnist_5k)
    right = evaluated(networks["good"], mnist_5k).correct
    champion = past_the_gate(recipe, settings, networks["good"], mnist_5k, right)
    trained = evaluated(networks["good"], marked)
    with journal(anchored, settings) as run:
        candidate = staged(run, networks["good"], marked)
        decision = decided(run, anchored, candidate, marked, trained)
    assert [rule.name for rule in decision.rules if not rule.passed] == ["champion"]
    assert "its test loss is not finite" in row_of(sql, run)["reason"]
    assert run.store.champion() == champion
