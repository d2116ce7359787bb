import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from storage.errors import DatabaseError
from storage.models.backends import LocalFolder
from storage.models.history import History
from storage.models.store import ModelStore
from storage.records import Status, Swap, SwapKind
from storage.recovery import close_dead_runs
from storage.settings import Settings
from storage.tables.promotions import Promotions
from storage.tables.runs import Runs

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def swap(generation: int, kind: SwapKind = SwapKind.PROMOTION) -> Swap:
    return Swap(
        generation=generation,
        version=f"run-{generation}",
        digest="ab" * 32,
        predecessor=f"run-{generation - 1}" if generation > 1 else None,
        kind=kind,
        actor="anna@here",
        reason="it was better",
        swapped_at=MOMENT,
        weights_digest="cd" * 32,
    )


@pytest.fixture
def promotions(engine: Engine) -> Promotions:
    return Promotions(engine)


def test_a_history_is_read_by_sql_and_through_the_table(
    promotions: Promotions, sql: sqlite3.Connection
) -> None:
    promotions.sync("mnist", History((swap(1), swap(2, SwapKind.ROLLBACK))))
    rows = [tuple(row) for row in sql.execute("SELECT * FROM promotions ORDER BY generation")]
    moment = "2026-01-02 03:04:05.000006"
    assert rows == [
        ("mnist", 1, "run-1", None, "promotion", "anna@here", "it was better", moment),
        ("mnist", 2, "run-2", "run-1", "rollback", "anna@here", "it was better", moment),
    ]
    assert [p.swapped_at for p in promotions.of("mnist")] == [MOMENT, MOMENT]
    assert promotions.of("another") == []


def test_sync_inserts_missing_swaps_and_changes_nothing_else(
    promotions: Promotions, sql: sqlite3.Connection
) -> None:
    whole = History(tuple(swap(number) for number in range(1, 6)))
    promotions.sync("mnist", whole)
    before = [tuple(row) for row in sql.execute("SELECT * FROM promotions ORDER BY generation")]
    sql.execute("DELETE FROM promotions WHERE generation IN (2, 5)")
    promotions.sync("another", History((swap(1),)))
    for _ in range(2):
        promotions.sync("mnist", whole)
        mended = sql.execute("SELECT * FROM promotions WHERE dataset = 'mnist' ORDER BY 2")
        assert [tuple(row) for row in mended] == before


def test_a_store_that_starts_over_keeps_the_rows_of_the_previous_one(
    promotions: Promotions,
) -> None:
    promotions.sync("mnist", History((swap(1),)))
    other = Swap(**{**vars(swap(1)), "version": "after-the-models-were-deleted"})
    promotions.sync("mnist", History((other,)))
    assert len(promotions.of("mnist")) == 2


def test_an_unusable_database_is_a_database_error(
    promotions: Promotions, settings: Settings
) -> None:
    (settings.home / "metrics.db").write_bytes(b"gone" * 5000)
    for act in (lambda: promotions.sync("mnist", History((swap(1),))), lambda: promotions.of("x")):
        with pytest.raises(DatabaseError, match=r"^cannot use the metrics database .*$"):
            act()


MEASURED = {
    "test_loss": 0.1, "test_accuracy": 0.9, "test_correct": 9, "test_total": 10,
    "weights_digest": "ab",
}  # fmt: skip


def dead_run(runs: Runs, sql: sqlite3.Connection, recipe) -> str:
    run_id = runs.open(recipe, versions={}, host="here")
    runs.note(run_id, **MEASURED)
    sql.execute(
        "UPDATE runs SET lease_expires_at = '2026-01-01 00:00:00.000000' WHERE run_id = ?",
        (run_id,),
    )
    return run_id


def stage(settings: Settings, run_id: str) -> tuple[ModelStore, str]:
    def write(folder: Path) -> None:
        (folder / "model.tflite").write_bytes(b"weights")

    store = ModelStore(LocalFolder(settings.models), "mnist-5k")
    return store, store.stage(run_id, write, {})


def test_a_run_that_died_before_its_promotion_is_lost_and_its_candidate_removed(
    runs: Runs, sql: sqlite3.Connection, settings: Settings, new_recipe
) -> None:
    run_id = dead_run(runs, sql, new_recipe())
    store, _ = stage(settings, run_id)
    living = runs.open(new_recipe(), versions={}, host="here")
    stage(settings, living)

    close_dead_runs(runs, settings)

    run = runs.get(run_id)
    assert run.status == Status.LOST
    assert "no heartbeat within DIGITS_LEASE_S" in run.reason
    assert not store.candidate(run_id).exists()
    assert runs.get(living).status == Status.RUNNING
    assert store.candidate(living).exists()


def test_a_dead_run_whose_store_cannot_be_locked_is_closed_later_and_blocks_no_other(
    runs: Runs, sql: sqlite3.Connection, settings: Settings, new_recipe, caplog
) -> None:
    first, second = (
        dead_run(runs, sql, new_recipe()),
        dead_run(runs, sql, new_recipe(name="other")),
    )
    store, _ = stage(settings, first)
    lock = store.folder / ".lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()

    close_dead_runs(runs, settings)

    assert [runs.get(run).status for run in (first, second)] == [Status.RUNNING, Status.LOST]
    assert f"run {first} is dead; a later run will close its row" in caplog.text
    lock.rmdir()
    close_dead_runs(runs, settings)
    assert runs.get(first).status == Status.LOST
    assert not store.candidate(first).exists()


def test_a_run_that_died_after_its_promotion_is_promoted(
    runs: Runs, sql: sqlite3.Connection, settings: Settings, new_recipe
) -> None:
    run_id = dead_run(runs, sql, new_recipe())
    store, digest = stage(settings, run_id)
    assert store.promote(run_id, digest, None, actor="retrain", reason="it was good")
    other = "20300101-000000-abcdef"  # and is not even the champion any more
    _, digest = stage(settings, other)
    assert store.promote(other, digest, store.champion(), actor="retrain", reason="")

    close_dead_runs(runs, settings)

    run = runs.get(run_id)
    assert (run.status, run.generation, run.reason) == (Status.PROMOTED, 1, "it was good")
    assert store.champion().version == other


def test_a_dead_run_is_closed_even_if_its_store_cannot_be_read(
    runs: Runs, sql: sqlite3.Connection, settings: Settings, new_recipe
) -> None:
    run_id = dead_run(runs, sql, new_recipe())
    folder = settings.models / "mnist-5k"
    folder.mkdir(parents=True)
    (folder / "champion.json").write_text("{")
    close_dead_runs(runs, settings)
    assert runs.get(run_id).status == Status.LOST
