"""A migration made as CONTRIBUTING.md says, in a copy of the project."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from storage.errors import DatabaseError
from storage.settings import Settings
from storage.tables.database import open_database
from storage.tables.schema import REVISION

PROJECT = Path(__file__).resolve().parents[3]
NEXT = f"{int(REVISION) + 1:04d}"
FLOW_RUN_ID = "    flow_run_id: Mapped[str | None]"
NEW_COLUMNS = """\
    paid_at: Mapped[datetime | None] = _column("when it was paid", TIME)
    cost: Mapped[float | None] = _column("what it cost", "EUR")
"""
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The project with two more columns in the schema, and no migration for them yet."""
    folder = tmp_path / "newer"
    shutil.copytree(
        PROJECT / "storage", folder / "storage", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(PROJECT / name, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for tool in ("alembic", "ruff"):
        (folder / ".venv" / "bin" / tool).symlink_to(Path(sys.executable).with_name(tool))
    schema = folder / "storage" / "tables" / "schema.py"
    text = schema.read_text()
    assert FLOW_RUN_ID in text
    schema.write_text(text.replace(FLOW_RUN_ID, NEW_COLUMNS + FLOW_RUN_ID))
    return folder


@pytest.fixture
def call(newer: Path) -> Call:
    """Run a program in the copy, with the copy's code and a home of its own."""

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("DIGITS_")},
            "DIGITS_HOME": str(newer),
            "PYTHONPATH": str(newer),
        }
        return subprocess.run(
            command, check=False, cwd=newer, env=environment, capture_output=True, text=True
        )

    return run


def make_migration(call: Call, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return call("make", "--old-file=.venv/installed-dev", "migration", *arguments)


def test_a_new_migration_has_the_next_number_and_the_newer_project_upgrades_with_it(
    newer: Path, call: Call, engine: Engine, settings: Settings, sql: sqlite3.Connection
) -> None:
    made = make_migration(call, "NAME=what it cost")
    assert made.returncode == 0, made.stderr
    (path,) = (newer / "storage/tables/migrations/versions").glob(f"{NEXT}*")
    assert path.name == f"{NEXT}_what_it_cost.py"
    assert f'revision = "{NEXT}"\ndown_revision = "{REVISION}"\n' in path.read_text()
    assert not (newer / "metrics.db").exists()  # it leaves the user's own database alone
    sql.execute(
        "INSERT INTO corrections (dataset, digest, image, label, corrected_at, actor)"
        " VALUES ('mnist', 'd', zeroblob(784), 4, '2026-11-23', 'bob')"
    )

    opened = call(
        sys.executable, "-c",
        "import sys; from storage.tables.database import open_database;"
        "from storage.tables.schema import Run;"
        "from sqlalchemy import select;"
        "print(open_database(sys.argv[1]).connect().execute(select(Run.cost, Run.paid_at)).all())",
        settings.database_url,
    )  # fmt: skip

    assert opened.stdout == "[]\n", opened.stderr
    with closing(sqlite3.connect(settings.home / "metrics.db")) as fresh:
        columns = [name for _, name, *_ in fresh.execute("PRAGMA table_info(runs)")]
        assert columns[-2:] == ["paid_at", "cost"]
        assert fresh.execute("SELECT label FROM corrections").fetchall() == [(4,)]
        assert fresh.execute("SELECT * FROM alembic_version").fetchall() == [(NEXT,)]
    with pytest.raises(DatabaseError, match=r"at most.*update") as error:
        open_database(settings.database_url)
    assert f"{REVISION} at most), received schema {NEXT};" in str(error.value)
    assert "\n" not in str(error.value)


def test_alembic_called_by_hand_also_takes_the_next_number(newer: Path, call: Call) -> None:
    made = call(".venv/bin/alembic", "revision", "-m", "by hand")
    assert made.returncode == 0, made.stderr
    assert (newer / f"storage/tables/migrations/versions/{NEXT}_by_hand.py").exists()


def test_a_migration_without_a_name_is_refused(newer: Path, call: Call) -> None:
    refused = make_migration(call)
    assert refused.returncode == 2
    assert "expected NAME=what_is_new" in refused.stderr
    assert not list((newer / "storage/tables/migrations/versions").glob(f"{NEXT}*"))


def test_opening_a_database_that_is_up_to_date_does_not_import_alembic(
    engine: Engine, settings: Settings
) -> None:
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys; from storage.tables.database import open_database;"
         "open_database(sys.argv[1]); print('alembic' in sys.modules)",
         settings.database_url],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "False\n"
