import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text

from storage.errors import DatabaseError
from storage.settings import Settings
from storage.tables.database import has_database, open_database, writing
from storage.tables.schema import MIGRATIONS, REVISION, Base


def refusal(url: str) -> str:
    """The one line with which this database is refused."""
    with pytest.raises(DatabaseError) as refused:
        open_database(url)
    message = str(refused.value)
    assert "\n" not in message
    return message


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


def test_a_new_database_gets_its_folder_and_the_newest_schema(settings: Settings) -> None:
    assert not has_database(settings.database_url)
    open_database(settings.database_url).dispose()
    assert has_database(settings.database_url)
    path = settings.home / "metrics.db"
    assert {"runs", "runs_by_dataset", "runs_by_start"} <= tables(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (REVISION,)
        ]


def test_a_full_disk_is_named_with_what_to_do(engine: Engine) -> None:
    def fill() -> None:
        with writing(engine) as session:
            session.execute(text("PRAGMA max_page_count = 1"))  # no file grows any more
            session.execute(text("CREATE TABLE other AS SELECT zeroblob(1000000)"))

    with pytest.raises(DatabaseError, match="disk is full; free some space on its disk"):
        fill()


def test_the_revision_in_the_code_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_the_mapped_tables_match_the_migrated_ones(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_opening_a_database_again_changes_nothing(engine: Engine, settings: Settings) -> None:
    path = settings.home / "metrics.db"
    before = path.read_bytes()
    open_database(settings.database_url).dispose()
    assert path.read_bytes() == before


def test_a_commit_is_on_the_disk_before_it_is_acknowledged(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "delete"
        assert connection.scalar(text("PRAGMA synchronous")) == 3  # EXTRA


def test_a_transaction_takes_the_write_lock_when_it_begins(
    engine: Engine, settings: Settings
) -> None:
    with (
        engine.begin(),
        closing(sqlite3.connect(settings.home / "metrics.db", timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")


def test_a_database_of_a_newer_release_is_refused_and_left_unchanged(
    engine: Engine, settings: Settings, sql: sqlite3.Connection
) -> None:
    sql.execute("UPDATE alembic_version SET version_num = '0999'")
    path = settings.home / "metrics.db"
    before = path.read_bytes()
    message = refusal(settings.database_url)
    assert "0999" in message
    assert REVISION in message
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_database_is_refused_and_left_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    path.write_bytes(b"run,accuracy\n1,0.98\n" * 500)
    before = path.read_bytes()
    message = refusal(f"sqlite:///{path}")
    assert str(path) in message
    assert "file is not a database" in message
    assert path.read_bytes() == before


def test_another_programs_table_runs_is_refused_and_nothing_is_added(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (marathon TEXT)")
    assert "already exists" in refusal(f"sqlite:///{path}")
    assert tables(path) == {"runs"}


def test_a_folder_that_cannot_be_created_is_named_with_what_to_check(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "home" / "metrics.db"
    message = refusal(f"sqlite:///{path}")
    assert str(path) in message
    assert "DIGITS_HOME" in message
    assert not has_database(f"sqlite:///{path}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://digits:hunter2@localhost:1/digits",
        "postgresql://localhost:1/digits?user=digits&password=hunter2",
        "postgresql+nonsense://digits:hunter2@localhost/digits",
        "nonsense://digits:hunter2@localhost/digits",
        "postgresql://digits@localhost:hunter2/digits",
        "hunter2",
    ],
)
def test_a_database_that_cannot_be_reached_is_refused_without_its_password(url: str) -> None:
    assert "hunter2" not in refusal(url)


def test_eight_processes_that_open_a_new_database_at_once_all_succeed(
    settings: Settings, at_once: Callable[[str, str, Sequence[Sequence[object]]], list[str]]
) -> None:
    answers = at_once(
        # Alembic too is imported before the start, so that the migrations meet.
        "import alembic.command; from sqlalchemy import text;"
        " from storage.tables.database import open_database",
        "with open_database(sys.argv[1]).connect() as connection:\n"
        "    print(connection.scalar(text('SELECT version_num FROM alembic_version')))",
        [[settings.database_url]] * 8,
    )
    assert answers == [f"{REVISION}\n"] * 8


def test_a_database_of_the_first_release_is_brought_up_to_date_with_its_runs(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.db"
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    row = (
        "INSERT INTO runs (run_id, status, dataset, started_at, finished_at, lease_expires_at,"
        " test_loss, test_accuracy, test_correct, test_total, min_accuracy, reason, generation,"
        " architecture, epochs, batch_size, learning_rate, seed, source, weights_digest, versions,"
        " host) VALUES (?, ?, ?, '2026-01-01', '2026-01-02', '2026-01-01', 0.1, 0.9, 9, 10, 0.5,"
        " 'good', ?, 'mlp', 1, 1, 0.1, 0, 'x', 'ab', '{}', 'here')"
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(row, ("a", "promoted", "mnist", 1))
        connection.execute(row, ("b", "rejected", "mnist", None))
        connection.execute(row, ("c", "promoted", "mnist", 2))
        connection.execute(row, ("d", "promoted", "other", 1))

    open_database(f"sqlite:///{path}").dispose()

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        found = connection.execute(
            "SELECT dataset, generation, version, predecessor, kind FROM promotions ORDER BY 1, 2"
        )
        assert found.fetchall() == [
            ("mnist", 1, "a", None, "promotion"),
            ("mnist", 2, "c", "a", "promotion"),
            ("other", 1, "d", None, "promotion"),
        ]
        kept = connection.execute("SELECT run_id, test_correct, test_uses FROM runs ORDER BY 1")
        assert kept.fetchall() == [(name, 9, None) for name in "abcd"]
        for column, value in (
            ("accuracy_low", 1.5), ("pixel_drift", float("inf")), ("test_uses", 0),
            ("champion_correct", -1), ("duplicates", -1),
        ):  # fmt: skip
            with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
                connection.execute(f"UPDATE runs SET {column} = ?", (value,))  # noqa: S608
