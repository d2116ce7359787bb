"""How models answer corrections that are not a digit.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"

# Empty in the rows of earlier runs, and of runs without corrections.
NEW_COLUMNS = (
    "not_digits INTEGER CHECK (not_digits >= 0)",
    "not_digits_sure INTEGER CHECK (not_digits_sure BETWEEN 0 AND not_digits)",
)


def upgrade() -> None:
    """Create the columns."""
    # In SQL: Alembic's own operation would drop the CHECKs on SQLite.
    for column in NEW_COLUMNS:
        op.execute(f"ALTER TABLE runs ADD COLUMN {column}")


def downgrade() -> None:
    """Drop them."""
    for column in reversed(NEW_COLUMNS):
        op.execute(f"ALTER TABLE runs DROP COLUMN {column.split()[0]}")
