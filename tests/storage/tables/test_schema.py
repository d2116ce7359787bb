import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect

from storage.tables.schema import VIEWS, Base

PROJECT = Path(__file__).resolve().parents[3]
COLUMNS = [
    pytest.param(column, id=f"{table.name}.{column.name}")
    for table in [*Base.metadata.tables.values(), *VIEWS.tables.values()]
    for column in table.columns
]


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_says_what_it_means(column) -> None:
    assert column.doc


@pytest.mark.parametrize("table", Base.metadata.tables.values(), ids=lambda table: table.name)
def test_a_time_is_in_utc_and_a_duration_in_seconds(table) -> None:
    for column in table.columns:
        unit = column.info["unit"]
        assert (unit == "UTC") == column.name.endswith("_at"), column.name
        assert (unit == "s") == column.name.endswith("_s"), column.name


def test_every_view_of_the_database_is_declared_and_no_other(engine: Engine) -> None:
    database = inspect(engine)
    assert set(database.get_view_names()) == set(VIEWS.tables)
    for view in VIEWS.tables.values():
        columns = {column["name"] for column in database.get_columns(view.name)}
        assert {column.name for column in view.columns} <= columns


def test_the_generated_tables_of_the_documents_are_up_to_date() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    (generated,) = (line for line in makefile.splitlines() if line.startswith("GENERATED"))
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", "--diff", "-P", "-I", "docs",
         *generated.split()[2:]],
        check=False, cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"run `make docs`\n{done.stdout}"
