"""Corrections that are held, accepted or learnt, and images that are not a digit.

Revision ID: 0005
Revises: 0004
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

OLD_COLUMNS = "dataset, digest, image, label, predicted, version, corrected_at, actor, revoked_at"
# Empty in the rows of earlier runs, and of runs without corrections.
RUN_COLUMNS = ("corrections_held INTEGER CHECK (corrections_held >= 0)", "held_actors JSON")


def upgrade() -> None:
    """Let the label be empty, and add the columns."""
    _remake(
        sa.Column("label", sa.Integer),
        sa.Column("asked_answer", sa.Integer),
        sa.Column("asked_probability", sa.Float),
        sa.Column("held_at", sa.DateTime(timezone=True)),
        sa.Column("held_why", sa.Text),
        sa.Column("accepted_at", sa.DateTime(timezone=True)),
        sa.Column("accepted_by", sa.String),
        sa.Column("learnt_by", sa.String),
        sa.CheckConstraint("asked_answer BETWEEN 0 AND 9", name="asked_answer_is_a_digit"),
        sa.CheckConstraint("asked_probability BETWEEN 0 AND 1", name="probability_is_a_share"),
    )
    for column in RUN_COLUMNS:
        op.execute(f"ALTER TABLE runs ADD COLUMN {column}")


def downgrade() -> None:
    """Remove the columns, and the images that are not a digit."""
    op.execute("DELETE FROM corrections WHERE label IS NULL")
    _remake(sa.Column("label", sa.Integer, nullable=False))
    for column in RUN_COLUMNS:
        op.execute(f"ALTER TABLE runs DROP COLUMN {column.split()[0]}")


def _remake(label: sa.Column[int], *more: sa.Column[Any] | sa.CheckConstraint) -> None:
    """Copy the table into a new one: SQLite cannot change whether a column may be empty."""
    op.create_table(
        "new_corrections",
        sa.Column("dataset", sa.String, primary_key=True),
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("image", sa.LargeBinary, nullable=False),
        label,
        sa.Column("predicted", sa.Integer),
        sa.Column("version", sa.String),
        sa.Column("corrected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        *more,
        sa.CheckConstraint("label BETWEEN 0 AND 9", name="label_is_a_digit"),
        sa.CheckConstraint("predicted BETWEEN 0 AND 9", name="predicted_is_a_digit"),
        sa.CheckConstraint("length(image) = 784", name="image_is_28_by_28"),
    )
    copy = f"INSERT INTO new_corrections ({OLD_COLUMNS}) SELECT {OLD_COLUMNS} FROM corrections"  # noqa: S608
    op.execute(copy)
    op.drop_table("corrections")
    op.rename_table("new_corrections", "corrections")
