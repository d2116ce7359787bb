"""The metrics database: opening it, migrating it, and the sessions that read and write it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from storage.errors import DatabaseError
from storage.tables.locks import TRY_S, execute_patiently
from storage.tables.schema import MIGRATIONS, REVISION

# A half-read result in a notebook, or an unsaved edit in a database browser, holds the file; a
# night waits for it rather than throw a trained model away.
WAIT_S = 900


def open_database(url: str, wait_s: float = WAIT_S) -> Engine:
    """Open the metrics database; create or migrate it first if needed.

    Args:
        url: SQLAlchemy URL, e.g. ``sqlite:////srv/digits/metrics.db``.
        wait_s: Seconds to wait for an SQLite file that another program holds.

    Raises:
        DatabaseError: If it cannot be reached, is not a database, or was made by a newer
            release.
    """
    where = _parse(url)
    with database_errors(where):
        if where.get_backend_name() == "sqlite" and where.database:
            Path(where.database).parent.mkdir(parents=True, exist_ok=True)
        engine = _engine(where, wait_s)
        with engine.connect() as connection:
            revision = _revision(connection)
        if revision != REVISION:
            _migrate(engine, revision)
    return engine


def has_database(url: str) -> bool:
    """Whether there is a database to read: False only for a missing SQLite file."""
    where = _parse(url)
    with database_errors(where):
        return where.get_backend_name() != "sqlite" or Path(where.database or "").exists()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that takes no write lock; errors are DatabaseErrors."""
    session = Session(engine.execution_options(readonly=True), expire_on_commit=False)
    with database_errors(engine.url), session:
        yield session


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A session with one transaction, committed at the end; errors are DatabaseErrors."""
    session = Session(engine, expire_on_commit=False)
    with database_errors(engine.url), session, session.begin():
        yield session


@contextmanager
def database_errors(where: URL) -> Iterator[None]:
    """Turn errors of the database or its driver into a one-line DatabaseError."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, ImportError, UnicodeError) as error:
        cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        advice = "check DIGITS_HOME and DIGITS_DATABASE_URL"
        if "readonly" in cause:
            advice = "this user must be able to write the file and its folder"
        elif "disk is full" in cause:
            advice = "free some space on its disk"
        raise DatabaseError(
            f"cannot use the metrics database {where.set(query={}).render_as_string()}:"
            f" {cause}; {advice}"
        ) from error


def _parse(url: str) -> URL:
    with suppress(ArgumentError, ValueError):
        where = make_url(url)
        if where.get_backend_name() != "sqlite" or where.database not in {None, "", ":memory:"}:
            return where
    raise DatabaseError(
        "DIGITS_DATABASE_URL: expected the SQLAlchemy URL of a permanent database, such as"
        " sqlite:////srv/digits/metrics.db, received an invalid or in-memory URL"
    )


def _engine(where: URL, wait_s: float) -> Engine:
    if where.get_backend_name() != "sqlite":
        return create_engine(where)
    path = where.database or ""
    engine = create_engine(where, connect_args={"timeout": min(TRY_S, wait_s)}, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # The driver's own deferred transactions lose updates; _begin takes the lock at once.
        connection.isolation_level = None
        # docs/decisions.md says why it is not the WAL.
        execute_patiently(connection, "PRAGMA journal_mode = DELETE", path, wait_s)
        connection.execute("PRAGMA synchronous = EXTRA")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if connection.get_execution_options().get("readonly"):
            driver.execute("BEGIN")
            execute_patiently(driver, "SELECT 1 FROM sqlite_schema LIMIT 1", path, wait_s)
        else:
            # EXCLUSIVE waits for readers here, where nothing is lost by waiting, not at the commit.
            execute_patiently(driver, "BEGIN EXCLUSIVE", path, wait_s)

    return engine


def _revision(connection: Connection) -> str | None:
    connection.execution_options(readonly=True)
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _migrate(engine: Engine, revision: str | None) -> None:
    # Imported here: Alembic takes 0.2 s, and only the first start of a release needs it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # Doubled: Alembic's configuration reads % as the start of a variable.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7001)"))
        # On SQLite BEGIN EXCLUSIVE is the lock; a process that waited finds nothing left to do.
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise DatabaseError(
                f"expected a metrics database of this release or an older one (schema {REVISION}"
                f" at most), received schema {revision}; update the project ({error})"
            ) from error
