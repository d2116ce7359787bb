import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import DatabaseError, InvalidDataError, ModelStoreError
from storage.provenance import Provenance
from storage.recipe import Recipe
from storage.records import Decision, Evaluation, Outcome, Rule, Status
from storage.settings import Settings
from tasks.data.dataset import Dataset
from tasks.journal import Journal, journal, state_of
from tasks.limits import TimeLimitError
from tasks.promote import promote
from tasks.scoring.values import Counts, Measurements, NotScored, Score
from tasks.stage import Candidate

EVALUATION = Evaluation(loss=0.25, confusion=((9, 1), (0, 10)))
MEASURED = Measurements("cd" * 32, EVALUATION, Score(EVALUATION, 0.0))
PROVENANCE = Provenance(None, None, {"python": "3.11"}, "here", {}, None)
YES = Decision((Rule("accuracy", "at least 0.9", "19 of 20 correct", passed=True),))
NO = Decision((Rule("accuracy", "at least 0.99", "19 of 20 correct", passed=False),))


@pytest.fixture
def recipe(new_recipe: Callable[..., Recipe]) -> Recipe:
    return new_recipe(name="mine")


def only_row(sql: sqlite3.Connection) -> dict[str, Any]:
    """The one row that there is: more, or none, is a failure."""
    (row,) = sql.execute("SELECT * FROM runs").fetchall()
    return dict(row)


def stage_small(run: Journal) -> Candidate:
    """A candidate of one small file, where the network does not matter."""

    def write(folder: Path) -> None:
        (folder / "model.tflite").touch()

    return run.note(Candidate(run.id, run.store.stage(run.id, write, {}), "ab" * 32))


def carry_out(run: Journal, candidate: Candidate, decision: Decision) -> None:
    """What the flow does with a decision about the champion of this moment."""
    measurements = run.note(replace(MEASURED, compared_with=run.store.champion()))
    run.note(decision)
    outcome = promote.fn(run.store, candidate, measurements.compared_with, decision)
    assert outcome is not None
    run.close(outcome)


def promote_one(recipe: Recipe, settings: Settings) -> Journal:
    """A run to its end: what the flow does after training."""
    with journal(recipe, settings) as run:
        carry_out(run, stage_small(run), YES)
    return run


def run_into(
    error: BaseException,
    recipe: Recipe,
    settings: Settings,
    step: Callable[[Journal, Candidate], object] = lambda run, candidate: run.renew_lease(),
) -> None:
    """A run that gets as far as this step, and then meets an error."""
    with journal(recipe, settings) as run:
        candidate = stage_small(run)
        run.note(MEASURED)
        run.note(YES)
        step(run, candidate)
        raise error


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline, "waited for 120 s in vain"
        time.sleep(0.02)


def candidates(settings: Settings) -> list[Path]:
    return list(settings.models.glob("*/staging/*"))


def test_a_run_that_passes_the_gate_is_promoted_in_store_row_and_state(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    run = promote_one(recipe, settings)
    row = only_row(sql)
    assert (row["run_id"], row["status"], row["generation"]) == (run.id, "promoted", 1)
    assert row["reason"] == "19 of 20 correct"
    assert (row["test_correct"], row["test_total"], row["test_accuracy"]) == (19, 20, 0.95)
    assert row["test_loss"] == 0.25
    assert run.store.champion().version == run.id
    assert candidates(settings) == []
    state = state_of(run.outcome)
    assert (state.type.value, state.name) == ("COMPLETED", "Promoted")
    assert state.message == "19 of 20 correct"


def test_a_run_that_does_not_pass_is_rejected_and_the_champion_stays(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    champion = promote_one(recipe, settings).store.champion()
    with journal(recipe, settings) as run:
        carry_out(run, stage_small(run), NO)
    row = sql.execute("SELECT * FROM runs WHERE run_id = ?", (run.id,)).fetchone()
    assert (row["status"], row["generation"]) == ("rejected", None)
    assert row["reason"] == "accuracy: 19 of 20 correct, required at least 0.99"
    assert row["test_correct"] == 19
    assert run.store.champion() == champion
    assert candidates(settings) == []
    state = state_of(run.outcome)
    assert (state.type.value, state.name) == ("COMPLETED", "Rejected")
    assert state.message == row["reason"]


def test_a_loss_that_is_not_finite_leaves_its_columns_empty(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    with journal(recipe, settings) as run:
        nan = replace(EVALUATION, loss=float("nan"))
        run.note(Measurements("cd" * 32, nan, Score(nan, float("nan"))))
        run.close(Outcome(Status.REJECTED, "not finite"))
    row = only_row(sql)
    # Nor what was counted from answers that are no numbers.
    measured = [row[name] for name in ("test_loss", "test_correct", "test_accuracy")]
    assert (row["status"], measured) == ("rejected", [None] * 3)


def test_counts_on_transformed_images_are_those_of_the_last_measurement_that_may_be_recorded(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    def rows() -> list[tuple]:
        return [tuple(row)[1:] for row in sql.execute("SELECT * FROM robustness")]

    counted = replace(MEASURED.challenger, robustness={"moved": Counts(3, 4)})
    nan = Evaluation(float("nan"), EVALUATION.confusion)
    with journal(recipe, settings) as run:
        run.note(replace(MEASURED, challenger=counted))
        assert rows() == [("moved", 3, 4)]
        run.note(replace(MEASURED, challenger=replace(counted, robustness={"thin": Counts(1, 4)})))
        assert rows() == [("thin", 1, 4)]
        for unscored in (NotScored("it is damaged"), replace(counted, evaluation=nan)):
            run.note(replace(MEASURED, challenger=unscored))
            assert rows() == []
            run.note(replace(MEASURED, challenger=counted))


def test_an_error_of_ours_ends_the_run_as_failed_with_its_message(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    with journal(recipe, settings) as run:
        stage_small(run)
        raise InvalidDataError("expected digits, received letters")
    row = only_row(sql)
    assert (row["status"], row["reason"]) == ("failed", "expected digits, received letters")
    assert row["finished_at"] is not None
    assert candidates(settings) == []
    state = state_of(run.outcome)
    assert (state.type.value, state.message) == ("FAILED", "expected digits, received letters")


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ZeroDivisionError("by zero"), "failed", "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "cancelled", "stopped from outside (KeyboardInterrupt)"),
        (SystemExit(1), "cancelled", "stopped from outside (SystemExit)"),
    ],
)
def test_any_other_error_is_written_to_the_row_and_raised_again(
    recipe: Recipe,
    settings: Settings,
    sql: sqlite3.Connection,
    error: BaseException,
    status: str,
    reason: str,
) -> None:
    with pytest.raises(type(error)):
        run_into(error, recipe, settings)
    row = only_row(sql)
    assert (row["status"], row["reason"]) == (status, reason)
    assert candidates(settings) == []


def test_a_run_that_reaches_its_time_limit_is_failed_and_ends_without_a_traceback(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    with journal(replace(recipe, max_hours=0.001), settings) as run:
        stage_small(run)
        time.sleep(600)
    row = only_row(sql)
    assert (row["status"], row["max_hours"]) == ("failed", 0.001)
    assert row["reason"].startswith("time limit: expected the step journal to end within 900 ms")
    assert candidates(settings) == []
    assert state_of(run.outcome).type.value == "FAILED"


def test_a_time_limit_after_the_promotion_does_not_take_it_back(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    run_into(TimeLimitError("late"), recipe, settings, lambda *run: carry_out(*run, YES))
    assert only_row(sql)["status"] == "promoted"


def test_an_error_after_the_promotion_does_not_take_it_back(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    with pytest.raises(ZeroDivisionError):
        run_into(ZeroDivisionError(), recipe, settings, lambda *run: carry_out(*run, YES))
    row = only_row(sql)
    assert (row["status"], row["reason"]) == ("promoted", YES.reason)


def test_an_error_between_the_swap_and_the_row_leaves_the_row_promoted(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_into(
            KeyboardInterrupt(),
            recipe,
            settings,
            lambda run, candidate: run.store.promote(
                run.id, candidate.digest, None, actor="retrain", reason="asked"
            ),
        )
    row = only_row(sql)
    assert (row["status"], row["generation"]) == ("promoted", 1)


def test_a_run_that_fails_is_closed_even_if_the_pointer_is_damaged(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    pointer = settings.models / recipe.name / "champion.json"
    pointer.parent.mkdir(parents=True)
    pointer.write_text("damaged")
    with journal(recipe, settings) as run:
        candidate = stage_small(run)
        promote.fn(run.store, candidate, None, YES)
    row = only_row(sql)
    assert row["status"] == "failed"
    assert "champion.json" in row["reason"]
    assert state_of(run.outcome).type.value == "FAILED"
    assert candidates(settings) == []


def test_a_run_whose_model_cannot_be_stored_is_closed_as_failed(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    settings.models.touch()  # a file where the folder should be
    with journal(recipe, settings) as run:
        stage_small(run)
    row = only_row(sql)
    assert row["status"] == "failed"
    assert row["reason"].startswith("the model store ")
    assert state_of(run.outcome).message == row["reason"]


def test_a_run_that_was_given_up_as_lost_promotes_nothing_and_stays_lost(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    champion = promote_one(recipe, settings).store.champion()
    with journal(recipe, settings) as run:
        candidate = stage_small(run)
        sql.execute(
            "UPDATE runs SET status = 'lost', finished_at = started_at WHERE status = 'running'"
        )
        carry_out(run, candidate, YES)
    assert run.store.champion() == champion
    (status,) = sql.execute("SELECT status FROM runs WHERE run_id = ?", (run.id,)).fetchone()
    assert status == "lost"
    assert candidates(settings) == []
    state = state_of(run.outcome)
    assert state.type.value == "FAILED"
    assert "lost" in state.message


def test_a_row_that_cannot_be_opened_stops_the_run_before_it_begins(
    recipe: Recipe, settings: Settings
) -> None:
    settings.home.mkdir()
    (settings.home / "metrics.db").write_bytes(b"no database" * 100)
    begun = False
    with pytest.raises(DatabaseError), journal(recipe, settings):
        begun = True
    assert not begun
    assert not settings.models.exists()


def test_a_long_step_keeps_its_lease(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    with journal(recipe, replace(settings, lease_s=0.4)) as run:
        first = run.row().lease_expires_at
        # Until a lease stands that was given when the first had run out.
        later = first + timedelta(seconds=0.4)
        wait_until(lambda: run.row().lease_expires_at > later)
        assert only_row(sql)["status"] == "running"


def test_a_lease_that_cannot_be_renewed_is_a_warning_and_tried_again(
    recipe: Recipe,
    settings: Settings,
    sql: sqlite3.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.WARNING, "digits"),
        journal(recipe, replace(settings, lease_s=0.4)) as run,
    ):
        sql.execute("ALTER TABLE runs RENAME TO elsewhere")
        wait_until(lambda: "no such table" in caplog.text)
        sql.execute("ALTER TABLE elsewhere RENAME TO runs")
        before = run.row().lease_expires_at
        wait_until(lambda: run.row().lease_expires_at > before)


@pytest.mark.slow
def test_a_run_that_is_killed_is_lost_when_the_next_begins_and_its_candidate_removed(
    recipe: Recipe, settings: Settings, sql: sqlite3.Connection
) -> None:
    program = f"""
import time
from dataclasses import replace
from datetime import timedelta
from storage.provenance import Provenance
from storage.recipe import Recipe
from storage.settings import read_settings
from tasks.journal import journal
settings = replace(read_settings({{"DIGITS_HOME": {str(settings.home)!r}}}), lease_s=1.0)
with journal(Recipe(**{vars(recipe)!r}), settings) as run:
    run.store.stage(run.id, lambda folder: (folder / "model.tflite").touch(), {{}})
    print(run.id, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        killed = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
    assert only_row(sql)["status"] == "running"
    assert [path.name for path in candidates(settings)] == [killed]
    time.sleep(1.1)
    run = promote_one(recipe, settings)
    statuses = dict(sql.execute("SELECT run_id, status FROM runs").fetchall())
    assert statuses == {killed: Status.LOST, run.id: Status.PROMOTED}
    assert candidates(settings) == []


def test_a_pointer_that_cannot_be_swapped_is_an_error_and_the_champion_stays(
    recipe: Recipe, settings: Settings
) -> None:
    champion = promote_one(recipe, settings).store.champion()
    run = Journal(recipe, settings, PROVENANCE)
    with pytest.raises(ModelStoreError):
        carry_out(run, Candidate(run.id, "ab" * 32, "ab" * 32), YES)  # it staged nothing
    assert run.store.champion() == champion
    assert run.outcome is None


def test_a_change_that_a_person_accepted_stays_accepted_until_the_champion_changes(
    recipe: Recipe, settings: Settings
) -> None:
    images, labels = np.zeros((10, 28, 28), np.uint8), np.arange(10, dtype=np.uint8)
    data = Dataset(images, labels, images, labels, digest="da" * 32)

    def night(decision: Decision, **accepted: bool) -> bool:
        """Whether a run on the data starts from an accepted change; then it ends like this."""
        with journal(replace(recipe, **accepted), settings) as run:
            run.note(data)
            before = run.accepting(data).accept_change
            assert not run.accepting(replace(data, digest="db" * 32)).accept_change or accepted
            carry_out(run, stage_small(run), decision)
        return before

    assert not night(YES)
    assert not night(NO)
    assert night(NO, accept_change=True), "the run itself"
    assert night(NO), "the same data"
    assert night(YES)
    assert not night(NO), "another champion"
