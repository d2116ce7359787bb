"""How long a run may take.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the column; it is empty in the rows of earlier runs."""
    op.execute("ALTER TABLE runs ADD COLUMN max_hours FLOAT CHECK (max_hours > 0)")


def downgrade() -> None:
    """Drop it."""
    op.execute("ALTER TABLE runs DROP COLUMN max_hours")
