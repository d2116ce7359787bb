"""The table of runs.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create ``runs`` with the constraints that hold for every row."""
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("dataset", sa.String, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_s", sa.Float),
        sa.Column("test_loss", sa.Float),
        sa.Column("test_accuracy", sa.Float),
        sa.Column("test_correct", sa.Integer),
        sa.Column("test_total", sa.Integer),
        sa.Column("min_accuracy", sa.Float, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("rules", sa.JSON),
        sa.Column("generation", sa.Integer),
        sa.Column("architecture", sa.String, nullable=False),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("batch_size", sa.Integer, nullable=False),
        sa.Column("learning_rate", sa.Float, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("train_loss", sa.Float),
        sa.Column("train_accuracy", sa.Float),
        sa.Column("train_total", sa.Integer),
        sa.Column("fit_s", sa.Float),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("data_digest", sa.String),
        sa.Column("weights_digest", sa.String),
        sa.Column("code_commit", sa.String),
        sa.Column("code_dirty", sa.Boolean),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("flow_run_id", sa.String),
        sa.CheckConstraint(
            "status IN ('running', 'promoted', 'rejected', 'failed', 'cancelled', 'lost')",
            name="status_is_known",
        ),
        sa.CheckConstraint(
            "(status = 'running') = (finished_at IS NULL)", name="terminal_rows_are_finished"
        ),
        # NaN and infinity exceed the bound (PostgreSQL) or are NULL (SQLite).
        sa.CheckConstraint("test_loss BETWEEN 0 AND 1e300", name="test_loss_is_finite"),
        sa.CheckConstraint(
            "test_correct BETWEEN 0 AND test_total AND test_total > 0",
            name="test_correct_is_a_count",
        ),
        sa.CheckConstraint("test_accuracy BETWEEN 0 AND 1", name="test_accuracy_is_a_share"),
        sa.CheckConstraint(
            "status <> 'promoted' OR (test_loss IS NOT NULL AND test_accuracy IS NOT NULL"
            " AND test_correct IS NOT NULL AND test_total IS NOT NULL"
            " AND generation IS NOT NULL AND weights_digest IS NOT NULL)",
            name="promoted_rows_are_measured",
        ),
    )
    op.create_index("runs_by_dataset", "runs", ["dataset", "started_at"])
    op.create_index("runs_by_start", "runs", ["started_at"])


def downgrade() -> None:
    """Drop the table with all runs."""
    op.drop_table("runs")
