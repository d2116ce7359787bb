"""Alembic's entry point: migrates the connection it is given, or the database in the settings."""

from typing import Any, Literal

from alembic import context
from alembic.operations.ops import MigrationScript
from sqlalchemy import Connection, create_engine

from storage.settings import read_settings
from storage.tables.schema import REVISION, Base, UTCDateTime


def number_revisions(_context: object, _revision: object, scripts: list[MigrationScript]) -> None:
    """Give a new migration the next number; Alembic itself would draw a hash."""
    for script in scripts:
        script.rev_id = f"{int(REVISION) + 1:04}"


def render_type(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """Write our own column type as the SQLAlchemy type it is stored as."""
    is_ours = kind == "type" and isinstance(item, UTCDateTime)
    return "sa.DateTime(timezone=True)" if is_ours else False


def migrate(connection: Connection) -> None:
    """Run the migrations, or compare the schema with the database for a new one."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_item=render_type,
        process_revision_directives=number_revisions,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with create_engine(read_settings().database_url).begin() as own:
        migrate(own)
