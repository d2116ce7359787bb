"""Alembic's entry: runs on the connection it is handed, or on the settings' database."""

from alembic import context
from sqlalchemy import Connection, create_engine

from storage.settings import read_settings
from storage.tables.schema import Base


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


handed = context.config.attributes.get("connection")
if handed is not None:
    _migrate(handed)
else:
    with create_engine(read_settings().database_url).begin() as own:
        _migrate(own)
