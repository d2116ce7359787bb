"""Promote: what happens when the champion moves, or the process dies, halfway through."""

import json
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from storage.errors import InvalidDataError
from storage.provenance import Provenance
from storage.recipe import Recipe
from storage.records import Decision, Evaluation, Outcome, Rule
from storage.settings import Settings
from tasks.compare import compare
from tasks.data.dataset import Dataset
from tasks.gate import gate
from tasks.journal import Journal, journal
from tasks.promote import promote
from tasks.scoring.statistics import interval
from tasks.scoring.values import Measurements, Pairs, Score
from tasks.stage import Candidate

Begin = Callable[..., Any]

EVALUATION = Evaluation(loss=0.25, confusion=((9, 1), (0, 10)))
PROVENANCE = Provenance(None, None, {"python": "3.11"}, "here", {}, None)
YES = Decision((Rule("accuracy", "at least 0.9", "19 of 20 correct", passed=True),))
NO = Decision((Rule("accuracy", "at least 0.99", "19 of 20 correct", passed=False),))


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


def measured(run: Journal, test: str = "cd" * 32) -> Measurements:
    seen = run.store.champion()
    return Measurements(test, EVALUATION, Score(EVALUATION, 0.0), compared_with=seen)


def stage_small(run: Journal, weights: str = "ab" * 32) -> Candidate:
    """A candidate of one small file, where the network does not matter."""

    def write(folder: Path) -> None:
        (folder / "model.tflite").touch()

    origin = {"weights_digest": weights}
    return run.note(Candidate(run.id, run.store.stage(run.id, write, origin), weights))


def one_run(
    recipe: Recipe,
    settings: Settings,
    decision: Decision = YES,
    weights: str = "ab" * 32,
    test: str = "cd" * 32,
) -> Journal:
    with journal(recipe, settings) as run:
        candidate = stage_small(run, weights)
        found = run.note(measured(run, test))
        run.note(decision)
        run.close(promote.fn(run.store, candidate, found.compared_with, decision))
    return run


@dataclass
class Night:
    """A run whose candidate is one of the stored networks; ``turn`` is the flow's loop, once."""

    run: Journal
    recipe: Recipe
    candidate: Candidate
    data: Dataset
    trained: Evaluation
    found: Measurements | None = None
    decision: Decision | None = None

    def compare(self) -> Decision:
        self.found = self.run.note(
            compare.fn(self.run.store, self.candidate, self.data, self.trained, self.recipe)
        )
        self.decision = self.run.note(gate.fn(self.found, self.recipe))
        return self.decision

    def promote(self) -> Outcome | None:
        seen = self.found.compared_with
        outcome = promote.fn(self.run.store, self.candidate, seen, self.decision)
        if outcome:
            self.run.close(outcome)
        return outcome


@pytest.fixture
def night(
    challenge: Begin, settings: Settings, new_recipe: Callable[..., Recipe], mnist_5k, stored
) -> Callable[..., Night]:
    def begin(name: str, **values: Any) -> Night:
        usual = {"name": "mine", "min_accuracy": 0.1, "min_recall": 0.0}
        recipe = new_recipe(**{**usual, **values})
        run = Journal(recipe, settings, PROVENANCE)
        candidate = run.note(challenge(name, run_id=run.id, **values).candidate)
        return Night(run, recipe, candidate, mnist_5k, stored[name].evaluation)

    return begin


@pytest.mark.parametrize(("other", "status"), [("good", "rejected"), ("poor", "promoted")])
def test_a_champion_that_moves_between_compare_and_promote_is_compared_with_again(
    night: Callable[..., Night],
    promoted: Begin,
    sql: sqlite3.Connection,
    stored,
    other: str,
    status: str,
) -> None:
    one = night("rough")
    assert one.compare().accepted  # there is no champion to compare with
    moved = promoted(other)
    assert one.promote() is None
    assert one.run.store.champion().version == moved.id
    assert one.run.store.candidate(one.run.id).is_dir()
    assert row_of(sql, one.run.id)["status"] == "running"

    one.compare()
    assert one.found.compared_with.version == moved.id
    assert one.promote().status == status
    row = row_of(sql, one.run.id)
    assert row["status"] == status
    winner = one.run.id if status == "promoted" else moved.id
    assert one.run.store.champion().version == winner
    theirs = stored[other].evaluation.correct
    assert (row["champion_version"], row["champion_correct"]) == (moved.id, theirs)
    assert row["only_challenger_correct"] - row["only_champion_correct"] == (
        one.trained.correct - theirs
    )
    # It looked at this test set twice, for one decision.
    assert row["test_uses"] == 1


def test_a_rollback_between_compare_and_promote_leads_to_a_second_comparison_too(
    night: Callable[..., Night], promoted: Begin, sql: sqlite3.Connection
) -> None:
    first, second = promoted("good"), promoted("poor")
    one = night("rough")
    assert one.compare().accepted
    assert one.found.compared_with.version == second.id
    one.run.store.rollback(None, actor="anna", reason="it was better before")
    assert one.promote() is None
    one.compare()
    assert one.found.compared_with.version == first.id
    one.promote()
    assert row_of(sql, one.run.id)["status"] == "rejected"
    assert one.run.store.champion().version == first.id


def test_the_row_holds_what_was_measured_and_required(
    night: Callable[..., Night], promoted: Begin, sql: sqlite3.Connection, stored
) -> None:
    champion = promoted("poor")
    one = night("good", champion_rule="non-inferior", margin=7, max_drift=0.5)
    decision = one.compare()
    one.promote()
    row = row_of(sql, one.run.id)
    correct = stored["good"].evaluation.correct
    assert (row["status"], row["generation"]) == ("promoted", 2)
    assert (row["test_correct"], row["test_total"]) == (correct, 1000)
    assert row["test_accuracy"] == correct / 1000
    assert (row["accuracy_low"], row["accuracy_high"]) == interval(correct, 1000)
    assert row["champion_version"] == champion.id
    assert row["champion_correct"] == stored["poor"].evaluation.correct
    pairs = Pairs(row["only_challenger_correct"], row["only_champion_correct"])
    assert pairs == one.found.pairs
    asked = row["confident"], row["min_recall"], row["champion_rule"], row["margin"]
    assert asked == (0, 0.0, "non-inferior", 7)
    assert row["max_drift"] == 0.5
    assert row["reason"] == decision.reason
    assert json.loads(row["rules"]) == [asdict(rule) for rule in decision.rules]


def test_every_run_that_decides_on_a_test_set_uses_it_once_more(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    def uses(run: Journal) -> int | None:
        return row_of(sql, run.id)["test_uses"]

    assert uses(one_run(recipe, settings)) == 1
    assert uses(one_run(recipe, settings, NO)) == 2
    # Another test set begins anew; another dataset's name does not.
    assert uses(one_run(recipe, settings, test="ef" * 32)) == 1
    assert uses(one_run(replace(recipe, name="other"), settings)) == 3
    with journal(recipe, settings) as failed:
        stage_small(failed)
        raise InvalidDataError("expected digits, received letters")
    assert uses(failed) is None  # it came to no decision
    with journal(recipe, settings) as twice:
        for _ in range(2):
            twice.note(measured(twice))
            assert uses(twice) == 4
    assert uses(one_run(recipe, settings)) == 5


def test_a_crash_between_the_swap_and_the_row_is_closed_as_promoted_by_the_next_run(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    run = Journal(recipe, settings, PROVENANCE)  # nothing renews its lease
    digest = stage_small(run).digest
    run.note(measured(run))
    swap = run.store.promote(run.id, digest, None, actor="retrain", reason="19 of 20 correct")
    early = Journal(recipe, settings, PROVENANCE)
    assert row_of(sql, run.id)["status"] == "running"  # it may still be alive
    # But what the pointer says stands in the table at once.
    assert swaps_of(sql) == [(1, run.id, None, "promotion", "retrain")]
    past = "2001-01-01 00:00:00.000000"
    sql.execute("UPDATE runs SET lease_expires_at = ? WHERE run_id = ?", (past, run.id))
    late = Journal(recipe, settings, PROVENANCE)
    row = row_of(sql, run.id)
    assert (row["status"], row["generation"]) == ("promoted", swap.generation)
    assert row["reason"] == "19 of 20 correct"
    assert row["finished_at"] is not None
    assert run.store.champion() == swap.pointer
    for other in (early, late):
        assert row_of(sql, other.id)["status"] == "running"
    assert sql.execute("SELECT count(*) FROM runs").fetchone()[0] == 3


def test_the_table_of_promotions_is_synced_from_the_store_when_the_next_run_begins(
    recipe: Recipe,
    settings: Settings,
    sql: sqlite3.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = one_run(recipe, settings)
    sql.execute("ALTER TABLE promotions RENAME TO elsewhere")
    with caplog.at_level(logging.WARNING, "digits"):
        second = one_run(recipe, settings, weights="12" * 32)
    assert "the table of promotions is updated by the next run" in caplog.text
    assert row_of(sql, second.id)["status"] == "promoted"
    sql.execute("ALTER TABLE elsewhere RENAME TO promotions")
    expected = [
        (1, first.id, None, "promotion", "retrain"),
        (2, second.id, first.id, "promotion", "retrain"),
    ]
    assert swaps_of(sql) == expected[:1]
    Journal(recipe, settings, PROVENANCE)
    assert swaps_of(sql) == expected
    sql.execute("DELETE FROM promotions WHERE generation = 1")
    Journal(recipe, settings, PROVENANCE)
    assert swaps_of(sql) == expected
