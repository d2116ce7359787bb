"""What a run's data looks like, and whether a person accepted that it changed.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"

# Empty in the rows of earlier runs.
NEW_COLUMNS = ("accept_change BOOLEAN", "unlike_mnist TEXT")


def upgrade() -> None:
    """Create the columns."""
    for column in NEW_COLUMNS:
        op.execute(f"ALTER TABLE runs ADD COLUMN {column}")


def downgrade() -> None:
    """Drop them."""
    for column in NEW_COLUMNS:
        op.execute(f"ALTER TABLE runs DROP COLUMN {column.split()[0]}")
