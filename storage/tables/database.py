"""The metrics database: opening it, and bringing its tables up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from storage.errors import DatabaseError
from storage.tables.schema import REVISION

# Of 64 processes writing at once none waits longer; the default of 5 s gives lock errors.
BUSY_TIMEOUT_S = 60
# Doubled, for Alembic's configuration reads % as the start of a variable.
MIGRATIONS = str(Path(__file__).with_name("migrations")).replace("%", "%%")


def open_database(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Open the metrics database, made or migrated first where that is needed.

    Args:
        url: SQLAlchemy URL, e.g. ``sqlite:////srv/digits/metrics.db``.
        busy_timeout_s: Seconds to wait for who else writes to an SQLite database.

    Raises:
        DatabaseError: If it cannot be reached, is no database, or was made by a newer
            release.
    """
    where = _parse(url)
    with explained(where):
        if where.get_backend_name() == "sqlite" and where.database:
            Path(where.database).parent.mkdir(parents=True, exist_ok=True)
        engine = _engine(where, busy_timeout_s)
        with engine.connect() as connection:
            revision = _revision(connection)
        if revision != REVISION:
            _migrate(engine)
    return engine


def has_database(url: str) -> bool:
    """Whether there is something to read: False only for an SQLite file not yet made."""
    where = _parse(url)
    if where.get_backend_name() != "sqlite" or not where.database:
        return True
    with explained(where):
        return Path(where.database).exists()


@contextmanager
def explained(where: URL) -> Iterator[None]:
    """Turn what the database or its driver raises into a DatabaseError of one line."""
    try:
        yield
    except (SQLAlchemyError, OSError, ImportError) as error:
        cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise DatabaseError(
            f"the metrics database {where.set(query={}).render_as_string()} cannot be used:"
            f" {cause}; check DIGITS_HOME and DIGITS_DATABASE_URL"
        ) from error


def _parse(url: str) -> URL:
    try:
        where = make_url(url)
    except (ArgumentError, ValueError):
        where = None
    if where is None or (
        where.get_backend_name() == "sqlite" and where.database in {None, "", ":memory:"}
    ):
        raise DatabaseError(
            "DIGITS_DATABASE_URL: expected the SQLAlchemy URL of a database that lasts, such as"
            " sqlite:////srv/digits/metrics.db, received something that is none"
        )
    return where


def _engine(where: URL, busy_timeout_s: float) -> Engine:
    if where.get_backend_name() != "sqlite":
        return create_engine(where)
    engine = create_engine(where, connect_args={"timeout": busy_timeout_s}, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # The driver's own deferred transactions lose updates: we say BEGIN IMMEDIATE.
        connection.isolation_level = None
        # The rollback journal: SQLite before 3.51.3 can corrupt a WAL.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("readonly")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _revision(connection: Connection) -> str | None:
    connection.execution_options(readonly=True)
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found is not None and found > REVISION:
        raise DatabaseError(
            f"the metrics database has schema {found}, this release knows {REVISION} at most;"
            " update the project"
        )
    return found


def _migrate(engine: Engine) -> None:
    # Imported here: Alembic costs 0.2 s, and only the first start of a release needs it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7001)"))
        # On SQLite BEGIN IMMEDIATE is the lock; who waited for it finds the work done.
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, REVISION)
        except CommandError as error:
            raise DatabaseError(
                f"expected the metrics database's schema to be one of ours, received: {error}"
            ) from error
