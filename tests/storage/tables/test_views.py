"""The views, asked in plain SQL: what they say, and how much work that takes."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml
from sqlalchemy import event

from storage import read_table
from storage.errors import DatabaseError, InvalidParameterError
from storage.records import Evaluation, Status
from storage.tables.database import open_database
from storage.tables.runs import Runs
from storage.tables.schema import VIEWS, Base

PROJECT = Path(__file__).resolve().parents[3]
COLUMNS = (
    "run_id, status, dataset, started_at, finished_at, lease_expires_at, duration_s, test_loss,"
    " test_accuracy, test_correct, test_total, min_accuracy, reason, generation, architecture,"
    " epochs, batch_size, learning_rate, seed, source, weights_digest, versions, host"
)


def row(run_id: str, started: str, accuracy: float | None, dataset: str = "mnist") -> tuple:
    status = "failed" if accuracy is None else "promoted"
    measured = (0.1, accuracy, int(10_000 * accuracy), 10_000) if accuracy else (None,) * 4
    return (
        run_id, status, dataset, started, started, started, 30.0, *measured, 0.97, "because", 1,
        "mlp", 10, 128, 0.001, 1, dataset, "ab", "{}", "here",
    )  # fmt: skip


def insert(sql: sqlite3.Connection, *rows: tuple) -> None:
    marks = ", ".join("?" * len(rows[0]))
    sql.executemany(f"INSERT INTO runs ({COLUMNS}) VALUES ({marks})", rows)  # noqa: S608


@pytest.fixture
def nights(sql: sqlite3.Connection) -> sqlite3.Connection:
    """Three nights of mnist, of which one had two runs and one failed, and one of another."""
    insert(
        sql,
        row("a", "2026-01-01 02:00:00.000000", 0.97),
        row("b", "2026-01-02 02:00:00.000000", 0.96),
        row("c", "2026-01-02 23:59:59.999999", 0.98),
        row("d", "2026-01-03 00:00:00.000000", None),
        row("e", "2026-01-04 02:00:00.000000", 0.975),
        row("x", "2026-01-02 12:00:00.000000", 0.5, "other"),
    )
    return sql


def test_nightly_has_the_last_run_of_each_day_and_the_change_from_the_day_before(nights) -> None:
    found = nights.execute(
        "SELECT night, run_id, accuracy_change FROM nightly WHERE dataset = 'mnist' ORDER BY night"
    ).fetchall()
    assert [tuple(row)[:2] for row in found] == [
        ("2026-01-01", "a"),
        ("2026-01-02", "c"),
        ("2026-01-04", "e"),
    ]
    changes = [row["accuracy_change"] for row in found]
    assert changes[0] is None
    assert changes[1:] == pytest.approx([0.01, -0.005])


def test_nights_and_ranks_compare_runs_of_one_test_set(nights) -> None:
    nights.execute("UPDATE runs SET test_digest = 'new' WHERE run_id IN ('c', 'e')")
    found = nights.execute(
        "SELECT run_id, accuracy_change, loss_change, new_test_set FROM nightly"
        " WHERE dataset = 'mnist' ORDER BY night"
    ).fetchall()
    assert [tuple(row) for row in found] == [
        ("a", None, None, 0),
        ("c", None, None, 1),
        ("e", pytest.approx(-0.005), 0, 0),
    ]
    places = nights.execute("SELECT run_id, place FROM leaderboard WHERE dataset = 'mnist'")
    assert dict(tuple(row) for row in places) == {"c": 1, "e": 2}


def test_a_night_is_a_day_in_the_time_zone_of_the_schedule(tmp_path: Path) -> None:
    """Five nights at 01:30 in Zurich, where the clock went forward on 29 March 2026."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT / "storage", project / "storage")
    shutil.copy(PROJECT / "pyproject.toml", project)
    schedule = {"cron": "30 1 * * *", "timezone": "Europe/Zurich"}
    (project / "prefect.yaml").write_text(
        yaml.safe_dump({"deployments": [{"name": "nightly", "schedules": [schedule]}]})
    )

    def python(*arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(project), "DIGITS_HOME": str(tmp_path)}
        subprocess.run([sys.executable, *arguments], check=True, cwd=project, env=environment)

    python("-m", "alembic", "upgrade", "0008")  # before a run had a night
    with closing(sqlite3.connect(tmp_path / "metrics.db")) as sql:
        times = ("27 00:30", "28 00:30", "29 00:30", "29 23:30", "30 23:30")
        with sql:
            insert(sql, *(row(time, f"2026-03-{time}:00.000000", 0.97) for time in times))
        python("-c", f"import storage; storage.read_table(url='sqlite:///{tmp_path}/metrics.db')")
        found = sql.execute("SELECT night FROM nightly ORDER BY night").fetchall()
    assert found == [(f"2026-03-{day}",) for day in (27, 28, 29, 30, 31)]


def test_the_leaderboard_ranks_each_datasets_measured_runs(nights) -> None:
    found = nights.execute("SELECT place, run_id FROM leaderboard WHERE dataset = 'mnist'")
    assert [tuple(row) for row in found] == [(1, "c"), (2, "e"), (3, "a"), (4, "b")]
    other = nights.execute("SELECT place FROM leaderboard WHERE run_id = 'x'").fetchone()
    assert tuple(other) == (1,)


def test_champions_lists_when_each_model_was_in_use(nights) -> None:
    nights.executemany(
        "INSERT INTO promotions VALUES ('mnist', ?, ?, NULL, 'promotion', 'retrain', 'good', ?)",
        [(1, "a", "2026-01-01 02:01:00"), (2, "c", "2026-01-03 00:01:00")],
    )
    on_the_2nd = nights.execute(
        "SELECT version, test_accuracy FROM champions WHERE dataset = 'mnist'"
        " AND in_use_from <= '2026-01-02' AND COALESCE(in_use_until, '9999') > '2026-01-02'"
    ).fetchall()
    assert [tuple(row) for row in on_the_2nd] == [("a", 0.97)]
    now = nights.execute("SELECT version FROM champions WHERE in_use_until IS NULL").fetchall()
    assert [tuple(row) for row in now] == [("c",)]


def test_learning_curve_and_digits_are_written_once_and_read_from_both_sides(
    runs: Runs, sql: sqlite3.Connection, new_recipe
) -> None:
    run_id = runs.open(new_recipe(), versions={}, host="here")
    runs.add_epochs(run_id, [epoch(0.5), {**epoch(0.25), "validation_loss": 0.2}])
    evaluation = Evaluation(
        0.1, tuple(tuple(9 if a == b else 0 for b in range(10)) for a in range(10))
    )
    for _ in range(2):
        runs.set_digits(run_id, evaluation)

    found = sql.execute(
        "SELECT epoch, loss, accuracy, duration_s, validation_loss FROM epochs ORDER BY epoch"
    )
    assert [tuple(row) for row in found] == [(1, 0.5, 0.9, 1.5, None), (2, 0.25, 0.9, 1.5, 0.2)]
    assert [epoch.loss for epoch in runs.epochs_of(run_id)] == [0.5, 0.25]
    found = sql.execute(
        "SELECT digit, images, correct, answers, recall, precision FROM digit_metrics"
    )
    assert [tuple(row) for row in found] == [(d, 9, 9, 9, 1.0, 1.0) for d in range(10)]
    assert [digit.correct for digit in runs.digits_of(run_id)] == [9] * 10


def test_transformations_are_replaced_together_and_read_from_both_sides(
    runs: Runs, sql: sqlite3.Connection, new_recipe
) -> None:
    run_id, other = (runs.open(new_recipe(), versions={}, host="here") for _ in range(2))
    runs.set_robustness(other, [("thin", 0, 9), ("moved", 9, 9)])
    runs.set_robustness(run_id, [("thin", 5, 9), ("faint", 6, 9)])
    runs.set_robustness(run_id, [("thin", 3, 9), ("noise", 4, 9)])

    columns = "SELECT transformation, correct, total FROM robustness WHERE run_id = ?"
    found = sql.execute(f"{columns} ORDER BY transformation", [run_id])
    assert [tuple(row) for row in found] == [("noise", 4, 9), ("thin", 3, 9)]
    assert [row.transformation for row in runs.robustness_of(other)] == ["moved", "thin"]
    for correct, total in ((10, 9), (-1, 9), (0, 0)):
        with pytest.raises(DatabaseError):
            runs.set_robustness(run_id, [("moved", correct, total)])
    assert [row.correct for row in runs.robustness_of(run_id)] == [4, 3]
    runs.set_robustness(run_id, [])
    assert runs.robustness_of(run_id) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_an_epoch_with_a_non_finite_loss_is_refused(runs: Runs, new_recipe, value: float) -> None:
    run_id = runs.open(new_recipe(), versions={}, host="here")
    with pytest.raises(DatabaseError):
        runs.add_epochs(run_id, [epoch(value)])


def epoch(loss: float) -> dict[str, float]:
    return {"loss": loss, "accuracy": 0.9, "duration_s": 1.5}


def test_history_filters_by_dataset_status_and_day(runs: Runs, nights) -> None:
    def ids(**filters: object) -> list[str]:
        return [run.run_id for run in runs.newest(None, **filters)]

    assert ids() == ["e", "d", "c", "x", "b", "a"]
    assert ids(name="other") == ["x"]
    assert ids(status=Status.FAILED) == ["d"]
    second, third = (datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3))
    assert ids(since=second, until=third) == ["c", "x", "b"]


def test_every_table_and_view_is_a_frame_with_proper_types(nights, settings) -> None:
    for name in [*Base.metadata.tables, *VIEWS.tables]:
        frame = read_table(name, settings.database_url)
        for column, dtype in frame.dtypes.items():
            if str(column).endswith(("_at", "_from", "_until")) or column == "night":
                assert isinstance(dtype, pd.DatetimeTZDtype), f"{name}.{column}"
                assert str(dtype.tz) == "UTC"
    frame = read_table(url=settings.database_url)
    assert frame["status"].dtype == "category"
    assert frame["test_correct"].dtype == "Int64"
    assert frame["test_accuracy"].dtype == "Float64"
    assert frame["confident"].dtype == "boolean"
    assert frame.loc[frame.run_id == "d", "test_loss"].isna().all()
    assert frame.loc[frame.run_id == "a", "started_at"].item() == pd.Timestamp(
        "2026-01-01 02:00", tz="UTC"
    )


def test_an_unknown_table_or_a_missing_database_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidParameterError, match=r"expected one of runs, .* received 'marathon'"
    ):
        read_table("marathon")
    with pytest.raises(DatabaseError, match="run `digits retrain` first"):
        read_table(url=f"sqlite:///{tmp_path / 'none.db'}")


HISTORY_PAGES = {
    "history": {},
    "history of one dataset": {"name": "other"},
    "history until a day": {"until": datetime(2001, 1, 11, tzinfo=UTC)},
}
CONSTANT = (
    "SELECT * FROM leaderboard WHERE dataset = 'mnist' LIMIT 30",
    "SELECT * FROM nightly ORDER BY started_at DESC LIMIT 30",
    "SELECT * FROM epochs WHERE run_id = 'run-000777'",
)
LINEAR = (
    "SELECT * FROM nightly WHERE dataset = 'mnist' ORDER BY night DESC LIMIT 30",
    "SELECT * FROM champions WHERE dataset = 'mnist' AND in_use_until IS NULL",
    "SELECT * FROM champions WHERE dataset = 'mnist' ORDER BY in_use_from DESC LIMIT 30",
)


def fill(path: Path, runs: int) -> None:
    """A history of so many runs with ten epochs each, a quarter of them of another dataset."""
    open_database(f"sqlite:///{path}").dispose()
    first = datetime(2001, 1, 1, tzinfo=UTC)
    with closing(sqlite3.connect(path)) as sql, sql:
        insert(
            sql,
            *(
                row(
                    f"run-{n:06}",
                    f"{first + timedelta(hours=2 * n):%Y-%m-%d %H:%M:%S.%f}",
                    0.97 + 0.01 * ((n * 7919) % 1000) / 1000,
                    "mnist" if n % 4 else "other",
                )
                for n in range(runs)
            ),
        )
        sql.execute(
            "WITH RECURSIVE n(epoch) AS"
            " (SELECT 1 UNION ALL SELECT epoch + 1 FROM n WHERE epoch < 10)"
            " INSERT INTO epochs (run_id, epoch, loss, accuracy, duration_s)"
            " SELECT run_id, epoch, 0.1, 0.9, 1.0 FROM runs, n"
        )
        sql.execute(
            "INSERT INTO promotions SELECT dataset, ROW_NUMBER() OVER (PARTITION BY dataset"
            " ORDER BY started_at), run_id, NULL, 'promotion', 'retrain', '', finished_at FROM runs"
        )


@pytest.mark.parametrize("runs", [1_000, 10_000])
def test_a_page_of_history_takes_the_same_work_however_long_the_history_is(
    tmp_path: Path, runs: int
) -> None:
    """Work is counted in instructions of SQLite's virtual machine, alike on every computer."""
    path = tmp_path / "metrics.db"
    fill(path, runs)
    hundreds = 0

    def count() -> None:
        nonlocal hundreds
        hundreds += 1

    def instructions(query: Callable[[], object]) -> int:
        nonlocal hundreds
        hundreds = 0
        assert query()
        return 100 * hundreds

    engine = open_database(f"sqlite:///{path}")
    event.listen(engine, "connect", lambda made, _: made.set_progress_handler(count, 100))
    for name, page in HISTORY_PAGES.items():
        assert instructions(lambda page=page: Runs(engine, 60).newest(20, **page)) < 20_000, name
    with closing(sqlite3.connect(path)) as sql:
        sql.set_progress_handler(count, 100)
        for query in (*CONSTANT, *LINEAR):
            most = 20_000 if query in CONSTANT else 150 * runs
            assert instructions(lambda query=query: sql.execute(query).fetchall()) < most, query
            plan = [step[3] for step in sql.execute(f"EXPLAIN QUERY PLAN {query}")]
            tables = [step for step in plan if step.startswith(("SCAN runs", "SCAN epochs"))]
            assert all("INDEX" in step for step in tables), (query, plan)


def test_a_column_name_has_one_type_in_all_tables_and_views() -> None:
    kinds: dict[str, set[str]] = {}
    for table in (*Base.metadata.tables.values(), *VIEWS.tables.values()):
        for column in table.columns:
            kinds.setdefault(column.name, set()).add(str(column.type))
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}
