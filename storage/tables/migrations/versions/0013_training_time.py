"""What a training may take, and what it is computed in.

Revision ID: 0013
Revises: 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"

# Empty in the rows of earlier runs.
NEW_COLUMNS = ("max_minutes FLOAT CHECK (max_minutes >= 0)", "compute_dtype VARCHAR")


def upgrade() -> None:
    """Create the columns."""
    # In SQL: Alembic's own operation would drop the CHECKs on SQLite.
    for column in NEW_COLUMNS:
        op.execute(f"ALTER TABLE runs ADD COLUMN {column}")


def downgrade() -> None:
    """Drop them."""
    for column in reversed(NEW_COLUMNS):
        op.execute(f"ALTER TABLE runs DROP COLUMN {column.split()[0]}")
