"""The table of promotions, and what the gate and the data check measure.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Empty in the rows of earlier runs.
NEW_COLUMNS = (
    "accuracy_low FLOAT CHECK (accuracy_low BETWEEN 0 AND 1)",
    "accuracy_high FLOAT CHECK (accuracy_high BETWEEN 0 AND 1)",
    "test_digest VARCHAR",
    "test_uses INTEGER CHECK (test_uses > 0)",
    "champion_version VARCHAR",
    "champion_correct INTEGER CHECK (champion_correct >= 0)",
    "only_challenger_correct INTEGER CHECK (only_challenger_correct >= 0)",
    "only_champion_correct INTEGER CHECK (only_champion_correct >= 0)",
    "confident BOOLEAN",
    "min_recall FLOAT",
    "champion_rule VARCHAR",
    "margin INTEGER",
    "max_drift FLOAT",
    "duplicates INTEGER CHECK (duplicates >= 0)",
    "pixel_drift FLOAT CHECK (pixel_drift BETWEEN 0 AND 1)",
    "label_drift FLOAT CHECK (label_drift BETWEEN 0 AND 1)",
)


def upgrade() -> None:
    """Create ``promotions``, filled from the promoted runs, and add columns to ``runs``."""
    # In SQL: Alembic's own operation would drop the CHECKs on SQLite.
    for column in NEW_COLUMNS:
        op.execute(f"ALTER TABLE runs ADD COLUMN {column}")
    op.create_index("runs_by_test_set", "runs", ["test_digest"])
    op.create_table(
        "promotions",
        sa.Column("dataset", sa.String, primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.String, primary_key=True),
        sa.Column("predecessor", sa.String),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("swapped_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('promotion', 'rollback')", name="kind_is_known"),
        sa.CheckConstraint("generation > 0", name="generation_is_a_count"),
    )
    op.execute(
        """
        INSERT INTO promotions
        SELECT dataset, generation, run_id,
               LAG(run_id) OVER (PARTITION BY dataset ORDER BY generation),
               'promotion', 'retrain', COALESCE(reason, ''), finished_at
        FROM runs WHERE status = 'promoted'
        """
    )


def downgrade() -> None:
    """Drop the table and the new columns."""
    op.drop_table("promotions")
    op.drop_index("runs_by_test_set", "runs")
    for column in reversed(NEW_COLUMNS):
        op.execute(f"ALTER TABLE runs DROP COLUMN {column.split()[0]}")
