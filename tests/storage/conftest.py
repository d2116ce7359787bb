"""Plain SQL beside the code that is tested: storage is checked from both sides."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Engine

from storage.settings import Settings
from storage.tables.runs import Runs


@pytest.fixture
def runs(engine: Engine) -> Runs:
    return Runs(engine, lease_s=60.0)


@pytest.fixture
def sql(engine: Engine, settings: Settings) -> Iterator[sqlite3.Connection]:
    """A connection that knows nothing of ours; each statement is its own transaction."""
    with closing(sqlite3.connect(settings.home / "metrics.db", isolation_level=None)) as made:
        made.row_factory = sqlite3.Row
        yield made
