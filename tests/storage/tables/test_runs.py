import json
import math
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine

from storage.errors import DatabaseError, RunClosedError, RunNotFoundError
from storage.recipe import Recipe
from storage.records import Status
from storage.settings import Settings
from storage.tables.runs import Runs

LINEAGE = {"versions": {"python": "3.11.7", "keras": "3.15.1"}, "host": "here"}
MEASURED = {
    "test_loss": 0.07,
    "test_accuracy": 0.98,
    "test_correct": 98,
    "test_total": 100,
    "weights_digest": "ab" * 32,
    "generation": 3,
}
PAST = "2026-01-02 03:04:05.000006"


def insert(sql: sqlite3.Connection, run_id: str, **columns: Any) -> None:
    """A whole row by plain SQL, as another program would write it."""
    row = {
        "run_id": run_id,
        "status": "promoted",
        "dataset": "mnist",
        "started_at": PAST,
        "finished_at": "2026-01-02 03:05:05.000006",
        "lease_expires_at": PAST,
        "duration_s": 60.0,
        "min_accuracy": 0.97,
        "architecture": "mlp",
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 0.001,
        "seed": 4294967295,
        "source": "mnist",
        "versions": json.dumps(LINEAGE["versions"]),
        "host": "here",
        **MEASURED,
        **columns,
    }
    marks = ", ".join("?" * len(row))
    sql.execute(f"INSERT INTO runs ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608 - our own column names


def row_of(sql: sqlite3.Connection, run_id: str) -> dict[str, Any]:
    return dict(sql.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone())


@pytest.fixture
def run_id(runs: Runs, new_recipe: Callable[..., Recipe]) -> str:
    return runs.open(new_recipe(), **LINEAGE)


def test_a_run_that_is_opened_and_closed_is_one_row_that_sql_can_read(
    runs: Runs, sql: sqlite3.Connection, new_recipe: Callable[..., Recipe]
) -> None:
    recipe = new_recipe(name="mine", dataset="/data/mine", seed=2**32 - 1, min_accuracy=0.9)
    before = datetime.now(UTC).replace(tzinfo=None)
    run_id = runs.open(recipe, **LINEAGE, code_commit="c0ffee", code_dirty=True)
    (opened,) = sql.execute("SELECT * FROM runs").fetchall()
    assert opened["run_id"] == run_id
    assert opened["status"] == "running"
    assert opened["finished_at"] is None
    assert {name: opened[name] for name in recipe.columns()} == recipe.columns()
    assert json.loads(opened["versions"]) == LINEAGE["versions"]
    assert (opened["code_commit"], opened["code_dirty"]) == ("c0ffee", 1)
    started_at = datetime.fromisoformat(opened["started_at"])
    assert before <= started_at <= datetime.now(UTC).replace(tzinfo=None)
    lease = datetime.fromisoformat(opened["lease_expires_at"]) - started_at
    assert lease == timedelta(seconds=60)

    rules = [{"name": "finite", "passed": True}]
    runs.close(run_id, Status.PROMOTED, "98 of 100 right", rules=rules, **MEASURED)
    (closed,) = sql.execute("SELECT * FROM runs").fetchall()
    assert closed["status"] == "promoted"
    assert closed["reason"] == "98 of 100 right"
    assert {name: closed[name] for name in MEASURED} == MEASURED
    assert json.loads(closed["rules"]) == rules
    took = datetime.fromisoformat(closed["finished_at"]) - started_at
    assert closed["duration_s"] == pytest.approx(took.total_seconds(), abs=1e-6)
    unchanged = set(opened.keys()) - {"status", "reason", "rules", "finished_at", "duration_s"}
    assert all(closed[name] == opened[name] for name in unchanged - set(MEASURED))


def test_a_row_inserted_by_sql_is_read_with_its_types(runs: Runs, sql: sqlite3.Connection) -> None:
    insert(sql, "a", rules='[{"name": "finite", "passed": true}]', code_dirty=0, reason="why")
    run = runs.get("a")
    assert run.started_at == datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert run.finished_at == datetime(2026, 1, 2, 3, 5, 5, 6, tzinfo=UTC)
    assert run.started_at.tzinfo is run.lease_expires_at.tzinfo is UTC
    assert run.rules == [{"name": "finite", "passed": True}]
    assert run.versions == LINEAGE["versions"]
    assert run.code_dirty is False
    assert run.seed == 4294967295
    assert run.status == Status.PROMOTED
    assert run.code_commit is None
    assert {name: run.as_dict()[name] for name in MEASURED} == MEASURED
    assert set(run.as_dict()) == set(row_of(sql, "a"))


@pytest.mark.parametrize("hours", [-11, 0, 5.5])
def test_a_time_in_any_zone_is_stored_in_utc(
    runs: Runs, sql: sqlite3.Connection, run_id: str, hours: float
) -> None:
    moment = datetime(2026, 3, 29, 1, 30, 0, 7, tzinfo=timezone(timedelta(hours=hours)))
    runs.note(run_id, started_at=moment)
    kept = row_of(sql, run_id)["started_at"]
    assert datetime.fromisoformat(kept).replace(tzinfo=UTC) == moment
    assert runs.get(run_id).started_at == moment


@pytest.mark.parametrize("first", [status for status in Status if status is not Status.RUNNING])
def test_a_run_is_closed_once_and_later_writes_change_nothing(
    runs: Runs, sql: sqlite3.Connection, run_id: str, first: Status
) -> None:
    runs.close(run_id, first, "the first", **MEASURED)
    before = row_of(sql, run_id)
    with pytest.raises(RunClosedError, match=f"expected run {run_id} to be running.*{first}"):
        runs.close(run_id, Status.FAILED, "the second", test_loss=9.0)
    with pytest.raises(RunClosedError):
        runs.note(run_id, test_loss=9.0)
    assert row_of(sql, run_id) == before


def test_a_note_writes_its_columns_and_renews_the_lease(
    runs: Runs, sql: sqlite3.Connection, run_id: str
) -> None:
    sql.execute("UPDATE runs SET lease_expires_at = ?", (PAST,))
    before = row_of(sql, run_id)
    earliest = datetime.now(UTC) + timedelta(seconds=60)
    runs.note(run_id, train_loss=0.5, data_digest="cd" * 32)
    latest = datetime.now(UTC) + timedelta(seconds=60)
    after = row_of(sql, run_id)
    assert earliest <= runs.get(run_id).lease_expires_at <= latest
    assert after == {
        **before,
        "train_loss": 0.5,
        "data_digest": "cd" * 32,
        "lease_expires_at": after["lease_expires_at"],
    }


def test_a_missing_run_is_named_in_the_error(runs: Runs) -> None:
    for act in (
        lambda: runs.get("nobody"),
        lambda: runs.note("nobody", train_loss=0.1),
        lambda: runs.close("nobody", Status.FAILED, "why"),
    ):
        with pytest.raises(RunNotFoundError, match="'nobody'"):
            act()


def test_a_dead_run_is_closed_unless_its_row_has_changed_since(
    runs: Runs, sql: sqlite3.Connection, run_id: str
) -> None:
    insert(sql, "promoted-long-ago")
    insert(sql, "dead", status="running", finished_at=None, duration_s=None, generation=None)
    others = [row_of(sql, other) for other in (run_id, "promoted-long-ago")]
    found = {run.run_id: run for run in runs.running()}
    assert set(found) == {run_id, "dead"}

    before = datetime.now(UTC)
    assert runs.close_dead(found["dead"], Status.LOST, "it died")
    lost = runs.get("dead")
    assert (lost.status, lost.reason) == (Status.LOST, "it died")
    assert before <= lost.finished_at <= datetime.now(UTC)
    assert not runs.close_dead(found["dead"], Status.LOST, "another process found it, too")
    assert [row_of(sql, other["run_id"]) for other in others] == others
    with pytest.raises(RunClosedError, match="found it lost"):
        runs.note("dead")

    runs.note(run_id)  # a heartbeat
    assert not runs.close_dead(found[run_id], Status.LOST, "it died")
    assert runs.get(run_id).status == Status.RUNNING


@pytest.mark.parametrize(
    "change",
    [
        "status = 'happy'",
        "status = NULL",
        "status = 'Promoted'",
        "status = 'running'",
        "finished_at = NULL",
        "test_loss = NULL",
        "test_loss = 9e999",
        "test_loss = -0.1",
        "test_loss = 'nan'",
        "test_accuracy = NULL",
        "test_accuracy = 1.5",
        "test_accuracy = -0.1",
        "test_correct = 101",
        "test_correct = -1",
        "test_correct = NULL",
        "test_total = NULL",
        "test_correct = 0, test_total = 0",
        "generation = NULL",
        "weights_digest = NULL",
        "dataset = NULL",
        "started_at = NULL",
    ],
)
def test_the_table_itself_refuses_impossible_rows(sql: sqlite3.Connection, change: str) -> None:
    insert(sql, "a")
    before = row_of(sql, "a")
    with pytest.raises(sqlite3.IntegrityError):
        sql.execute(f"UPDATE runs SET {change}")  # noqa: S608 - the changes above
    assert row_of(sql, "a") == before


def test_the_table_accepts_a_failed_run_without_measurements(sql: sqlite3.Connection) -> None:
    insert(sql, "a", status="failed", **dict.fromkeys(MEASURED))
    assert row_of(sql, "a")["test_loss"] is None


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_run_with_a_non_finite_loss_cannot_be_promoted(
    runs: Runs, sql: sqlite3.Connection, run_id: str, loss: float
) -> None:
    before = row_of(sql, run_id)
    with pytest.raises(DatabaseError) as refused:
        runs.close(run_id, Status.PROMOTED, "why", **{**MEASURED, "test_loss": loss})
    assert "\n" not in str(refused.value)
    assert row_of(sql, run_id) == before


def test_the_newest_rows_come_first_and_can_be_limited_to_one_name(
    runs: Runs, sql: sqlite3.Connection
) -> None:
    insert(sql, "b", started_at="2026-01-02 00:00:00.000000", dataset="mine")
    insert(sql, "a", started_at="2026-01-03 00:00:00.000000")
    insert(sql, "c", started_at="2026-01-01 00:00:00.000000")
    insert(sql, "d", started_at="2026-01-01 00:00:00.000000")
    assert [run.run_id for run in runs.newest(10)] == ["a", "b", "d", "c"]
    assert [run.run_id for run in runs.newest(2)] == ["a", "b"]
    assert [run.run_id for run in runs.newest(2, name="mnist")] == ["a", "d"]
    assert runs.newest(10, name="nothing") == []


def test_the_row_of_a_flow_run_is_the_newest_one_it_opened(
    runs: Runs, sql: sqlite3.Connection
) -> None:
    insert(sql, "first", flow_run_id="f", started_at="2026-01-01 00:00:00.000000")
    insert(sql, "retry", flow_run_id="f", started_at="2026-01-02 00:00:00.000000")
    insert(sql, "other", flow_run_id="g", started_at="2026-01-03 00:00:00.000000")
    assert runs.of_flow_run("f").run_id == "retry"
    assert runs.of_flow_run("nobody") is None


def test_the_ids_of_runs_sort_by_time_and_differ_within_one_second(
    runs: Runs, new_recipe: Callable[..., Recipe]
) -> None:
    ids = [runs.open(new_recipe(), **LINEAGE) for _ in range(5)]
    assert len(set(ids)) == 5
    assert sorted(run_id[:15] for run_id in ids) == [run_id[:15] for run_id in ids]
    # An id is also the name of a folder.
    assert all(run_id.replace("-", "").isalnum() for run_id in ids)


def test_a_reader_does_not_wait_for_a_writer(
    runs: Runs, sql: sqlite3.Connection, run_id: str
) -> None:
    sql.execute("BEGIN IMMEDIATE")
    sql.execute("UPDATE runs SET train_loss = 9.0")
    # The lock is released below: whoever waited for it would fail with "database is locked".
    assert runs.get(run_id).train_loss is None
    assert [run.run_id for run in runs.newest(10)] == [run_id]
    sql.execute("ROLLBACK")


def test_a_damaged_database_is_a_one_line_error(
    engine: Engine, runs: Runs, settings: Settings, run_id: str
) -> None:
    engine.dispose()
    (settings.home / "metrics.db").write_bytes(b"gone" * 5000)
    for act in (
        lambda: runs.get(run_id),
        lambda: runs.newest(1),
        lambda: runs.note(run_id),
        runs.running,
    ):
        with pytest.raises(DatabaseError, match=r"^cannot use the metrics database .*metrics\.db"):
            act()


def test_each_run_counts_the_decisions_made_on_its_test_set(
    runs: Runs, sql: sqlite3.Connection, new_recipe: Callable[..., Recipe]
) -> None:
    def decide(digest: str, dataset: str = "mnist") -> str:
        run_id = runs.open(new_recipe(name=dataset), versions={}, host="here")
        runs.note(run_id, test_digest=digest, test_loss=0.1)
        return run_id

    ids = [decide("aa"), decide("aa", "under-another-name"), decide("bb"), decide("aa")]
    runs.note(ids[-1], test_digest="aa", test_loss=0.2)  # the same run compares again
    undecided = runs.open(new_recipe(), versions={}, host="here")

    assert [row_of(sql, run_id)["test_uses"] for run_id in ids] == [1, 2, 1, 3]
    assert row_of(sql, undecided)["test_uses"] is None
    assert row_of(sql, ids[-1])["test_loss"] == 0.2


@pytest.mark.parametrize("writers", [4, pytest.param(64, marks=pytest.mark.slow)])
def test_processes_that_write_at_once_lose_nothing(
    writers: int,
    settings: Settings,
    sql: sqlite3.Connection,
    at_once: Callable[[str, str, Sequence[Sequence[object]]], list[str]],
) -> None:
    at_once(
        "from storage.tables.database import open_database\n"
        "from storage.records import Status\n"
        "from storage.tables.runs import Runs\n"
        "from tasks.data.sources import resolve\n"
        "runs = Runs(open_database(sys.argv[1]), 60)\n"
        "recipe = resolve(name='mnist', seed=0, min_accuracy=0.5, min_recall=0.5)",
        "for number in range(25):\n"
        "    run_id = runs.open(recipe, versions={}, host=sys.argv[2])\n"
        "    runs.close(run_id, Status.FAILED, str(number))",
        [[settings.database_url, worker] for worker in range(writers)],
    )
    found = sql.execute("SELECT host, reason FROM runs WHERE status = 'failed'").fetchall()
    assert len(found) == writers * 25
    assert {(row["host"], row["reason"]) for row in found} == {
        (str(worker), str(number)) for worker in range(writers) for number in range(25)
    }
