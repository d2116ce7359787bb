"""How models do on transformed test images, and whether the gate asks for it.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Create the table, and the column, which is empty in the rows of earlier runs."""
    op.create_table(
        "robustness",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("transformation", sa.String, primary_key=True),
        sa.Column("correct", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.CheckConstraint("total > 0", name="transformed_some_images"),
        sa.CheckConstraint("correct BETWEEN 0 AND total", name="correct_is_a_count"),
    )
    op.execute("ALTER TABLE runs ADD COLUMN robust BOOLEAN")


def downgrade() -> None:
    """Drop them."""
    op.execute("ALTER TABLE runs DROP COLUMN robust")
    op.drop_table("robustness")
