"""What in a run's environment decides its weights.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the column; it is empty in the rows of earlier runs."""
    op.execute("ALTER TABLE runs ADD COLUMN environment JSON")


def downgrade() -> None:
    """Drop it."""
    op.execute("ALTER TABLE runs DROP COLUMN environment")
