"""Corrections, and how a run used them.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# Empty in the rows of earlier runs, and of runs without corrections.
NEW_COLUMNS = (
    "corrections BOOLEAN",
    "corrections_share FLOAT CHECK (corrections_share BETWEEN 0 AND 1)",
    "corrections_used INTEGER CHECK (corrections_used >= 0)",
    "corrections_dropped INTEGER CHECK (corrections_dropped >= 0)",
    "corrections_digest VARCHAR",
    "field_total INTEGER CHECK (field_total >= 0)",
    "field_correct INTEGER CHECK (field_correct >= 0)",
    "champion_field_correct INTEGER CHECK (champion_field_correct >= 0)",
)


def upgrade() -> None:
    """Create the table and the columns."""
    op.create_table(
        "corrections",
        sa.Column("dataset", sa.String, primary_key=True),
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("image", sa.LargeBinary, nullable=False),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("predicted", sa.Integer),
        sa.Column("version", sa.String),
        sa.Column("corrected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("label BETWEEN 0 AND 9", name="label_is_a_digit"),
        sa.CheckConstraint("predicted BETWEEN 0 AND 9", name="predicted_is_a_digit"),
        sa.CheckConstraint("length(image) = 784", name="image_is_28_by_28"),
    )
    # In SQL: Alembic's own operation would drop the CHECKs on SQLite.
    for column in NEW_COLUMNS:
        op.execute(f"ALTER TABLE runs ADD COLUMN {column}")


def downgrade() -> None:
    """Drop them."""
    for column in NEW_COLUMNS:
        op.execute(f"ALTER TABLE runs DROP COLUMN {column.split()[0]}")
    op.drop_table("corrections")
