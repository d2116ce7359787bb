"""Promote: what happens when the champion moves, or the process dies, halfway through."""

import json
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from storage.errors import InvalidDataError
from storage.recipe import Recipe
from storage.records import Decision, Evaluation, Rule
from storage.settings import Settings
from tasks.data.dataset import Dataset
from tasks.gate import gate
from tasks.promote import promote
from tasks.record import RunInProgress, record
from tasks.score import score
from tasks.scoring.measure import Measurements, Score, interval
from tasks.validate import DataCheck

Begin = Callable[..., RunInProgress]

EVALUATION = Evaluation(loss=0.25, confusion=((9, 1), (0, 10)))
YES = Decision((Rule("accuracy", "at least 0.9", "19 of 20 right", passed=True),))
NO = Decision((Rule("accuracy", "at least 0.99", "19 of 20 right", passed=False),))


@pytest.fixture
def recipe(new_recipe: Callable[..., Recipe]) -> Recipe:
    return new_recipe(name="mine")


def row_of(sql: sqlite3.Connection, run_id: str) -> dict[str, Any]:
    return dict(sql.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone())


def swaps_of(sql: sqlite3.Connection) -> list[tuple[Any, ...]]:
    rows = sql.execute(
        "SELECT generation, version, predecessor, kind, actor FROM promotions ORDER BY generation"
    )
    return [tuple(row) for row in rows]


def compared(run: RunInProgress) -> Measurements:
    found = Measurements(EVALUATION, Score(EVALUATION, 0.0))
    return replace(found, compared_with=run.store.champion())


def stage_small(run: RunInProgress, weights: str = "ab" * 32, test: str = "cd" * 32) -> None:
    """A candidate of one small file, where the network does not matter."""
    run.checked(DataCheck(test, 0, {}, pixel_drift=None, label_drift=None))
    run.staged(weights)

    def write(folder: Path) -> None:
        (folder / "model.tflite").touch()

    run.candidate_digest = run.store.stage(run.id, write, run.lineage)


def one_run(
    recipe: Recipe, settings: Settings, decision: Decision = YES, **staged: str
) -> RunInProgress:
    with record(recipe, settings) as run:
        stage_small(run, **staged)
        promote.fn(run, compared(run), decision)
    return run


def decide(run: RunInProgress, data: Dataset, trained: Evaluation) -> Measurements:
    """One turn of the flow's loop."""
    found = score.fn(run, data, trained)
    promote.fn(run, found, gate.fn(found, run.recipe))
    return found


@pytest.mark.parametrize(("other", "status"), [("good", "rejected"), ("poor", "promoted")])
def test_a_champion_that_moves_between_score_and_promote_is_compared_with_again(
    challenge: Begin,
    promoted: Begin,
    sql: sqlite3.Connection,
    mnist_5k: Dataset,
    stored,
    other: str,
    status: str,
) -> None:
    trained = stored["rough"].evaluation
    run = challenge("rough")
    found = score.fn(run, mnist_5k, trained)
    decision = gate.fn(found, run.recipe)
    assert decision.accepted  # nobody is there to be compared with
    moved = promoted(other)
    promote.fn(run, found, decision)
    assert run.outcome is None
    assert run.store.champion().version == moved.id
    assert run.store.candidate(run.id).is_dir()
    assert row_of(sql, run.id)["status"] == "running"

    again = decide(run, mnist_5k, trained)
    assert again.compared_with.version == moved.id
    row = row_of(sql, run.id)
    assert row["status"] == status
    assert run.store.champion().version == (run.id if status == "promoted" else moved.id)
    theirs = stored[other].evaluation.correct
    assert (row["champion_version"], row["champion_correct"]) == (moved.id, theirs)
    assert row["only_challenger_correct"] - row["only_champion_correct"] == (
        trained.correct - theirs
    )
    # Two runs have looked at this test set; the second of them twice, for one decision.
    assert row["test_uses"] == 2


def test_a_rollback_between_score_and_promote_leads_to_a_second_comparison_too(
    challenge: Begin, promoted: Begin, sql: sqlite3.Connection, mnist_5k: Dataset, stored
) -> None:
    first, second = promoted("good"), promoted("poor")
    run = challenge("rough")
    trained = stored["rough"].evaluation
    found = score.fn(run, mnist_5k, trained)
    decision = gate.fn(found, run.recipe)
    assert decision.accepted
    assert found.compared_with.version == second.id
    run.store.rollback(None, actor="anna", reason="it was better before")
    promote.fn(run, found, decision)
    assert run.outcome is None
    assert decide(run, mnist_5k, trained).compared_with.version == first.id
    assert row_of(sql, run.id)["status"] == "rejected"
    assert run.store.champion().version == first.id


def test_the_row_says_what_was_measured_and_required(
    challenge: Begin, promoted: Begin, sql: sqlite3.Connection, mnist_5k: Dataset, stored
) -> None:
    champion = promoted("poor")
    run = challenge("good", champion_rule="non-inferior", margin=7, max_drift=0.5)
    found = score.fn(run, mnist_5k, stored["good"].evaluation)
    decision = gate.fn(found, run.recipe)
    promote.fn(run, found, decision)
    row = row_of(sql, run.id)
    correct = stored["good"].evaluation.correct
    assert (row["status"], row["generation"]) == ("promoted", 2)
    assert (row["test_correct"], row["test_total"]) == (correct, 1000)
    assert row["test_accuracy"] == correct / 1000
    assert (row["accuracy_low"], row["accuracy_high"]) == interval(correct, 1000)
    assert row["champion_version"] == champion.id
    assert row["champion_correct"] == stored["poor"].evaluation.correct
    pairs = found.only_challenger, found.only_champion
    assert (row["only_challenger_correct"], row["only_champion_correct"]) == pairs
    asked = row["confident"], row["min_recall"], row["champion_rule"], row["margin"]
    assert asked == (0, 0.0, "non-inferior", 7)
    assert row["max_drift"] == 0.5
    assert row["reason"] == decision.reason
    assert json.loads(row["rules"]) == [asdict(rule) for rule in decision.rules]


def test_every_run_that_decides_on_a_test_set_uses_it_once_more(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    def uses(run: RunInProgress) -> int | None:
        return row_of(sql, run.id)["test_uses"]

    assert uses(one_run(recipe, settings)) == 1
    assert uses(one_run(recipe, settings, NO)) == 2
    # Another test set begins anew; another dataset's name does not.
    assert uses(one_run(recipe, settings, test="ef" * 32)) == 1
    assert uses(one_run(replace(recipe, name="other"), settings)) == 3
    with record(recipe, settings) as failed:
        stage_small(failed)
        raise InvalidDataError("expected digits, received letters")
    assert uses(failed) is None  # it came to no decision
    with record(recipe, settings) as twice:
        stage_small(twice)
        twice.decided(compared(twice), YES)
        assert uses(twice) == 4
        promote.fn(twice, compared(twice), YES)
    assert uses(twice) == 4
    assert uses(one_run(recipe, settings)) == 5


def test_a_crash_between_the_swap_and_the_row_is_closed_as_promoted_by_the_next_run(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    run = RunInProgress(recipe, settings)  # nothing renews its lease
    stage_small(run)
    found = compared(run)
    run.decided(found, YES)
    swap = run.store.promote(
        run.id, run.candidate_digest, None, actor="retrain", reason="19 of 20 right"
    )
    early = RunInProgress(recipe, settings)
    assert row_of(sql, run.id)["status"] == "running"  # it may still be alive
    # But what the pointer says stands in the table at once.
    assert swaps_of(sql) == [(1, run.id, None, "promotion", "retrain")]
    past = "2001-01-01 00:00:00.000000"
    sql.execute("UPDATE runs SET lease_expires_at = ? WHERE run_id = ?", (past, run.id))
    late = RunInProgress(recipe, settings)
    row = row_of(sql, run.id)
    assert (row["status"], row["generation"]) == ("promoted", swap.generation)
    assert row["reason"] == "19 of 20 right"
    assert row["finished_at"] is not None
    assert run.store.champion() == swap.pointer
    for other in (early, late):
        assert row_of(sql, other.id)["status"] == "running"
    assert sql.execute("SELECT count(*) FROM runs").fetchone()[0] == 3


def test_the_table_of_promotions_is_mended_from_the_store_when_the_next_run_begins(
    recipe: Recipe,
    settings: Settings,
    sql: sqlite3.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = one_run(recipe, settings)
    sql.execute("ALTER TABLE promotions RENAME TO elsewhere")
    with caplog.at_level(logging.WARNING, "digits"):
        second = one_run(recipe, settings, weights="12" * 32)
    assert "the table of promotions waits for the next run" in caplog.text
    assert row_of(sql, second.id)["status"] == "promoted"
    sql.execute("ALTER TABLE elsewhere RENAME TO promotions")
    expected = [
        (1, first.id, None, "promotion", "retrain"),
        (2, second.id, first.id, "promotion", "retrain"),
    ]
    assert swaps_of(sql) == expected[:1]
    RunInProgress(recipe, settings)
    assert swaps_of(sql) == expected
    sql.execute("DELETE FROM promotions WHERE generation = 1")
    RunInProgress(recipe, settings)
    assert swaps_of(sql) == expected


def test_what_the_champion_was_trained_on_is_read_from_its_manifest_where_it_says_so(
    challenge: Begin,
    promoted: Begin,
    recipe: Recipe,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert challenge("good").champion_data() is None
    champion = promoted("good")
    data = challenge("good").champion_data()
    assert data == champion.lineage["training_data"]
    assert set(data) == {"grey levels", "ink", "labels"}
    model = champion.store.version(champion.id) / "model.tflite"
    model.write_bytes(b"damaged")
    assert challenge("good").champion_data() is None
    assert "drift cannot be measured: " in caplog.text
    # A version of an older release says nothing of its data.
    other = replace(recipe, name="older")
    with record(other, settings) as run:
        stage_small(run)
        run.lineage.pop("training_data")
        run.store.discard(run.id)
        run.candidate_digest = run.store.stage(run.id, lambda folder: None, run.lineage)
        promote.fn(run, compared(run), YES)
    assert run.champion_data() is None
