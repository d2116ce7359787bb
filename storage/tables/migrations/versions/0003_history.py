"""Learning curves, metrics per digit, and the views.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# Indices of measured runs. The two conditions select the same rows but are worded differently:
# SQLite picks an index by its condition, so each view gets its own.
INDICES = {
    "measured_by_accuracy": (["dataset", "test_accuracy"], "test_total > 0"),
    "measured_by_start": (
        ["dataset", "started_at", "test_accuracy", "test_loss"],
        "test_accuracy IS NOT NULL",
    ),
}
VIEWS = {
    # The best first; runs with the same accuracy share a place.
    "leaderboard": """
        SELECT dataset,
               RANK() OVER (PARTITION BY dataset ORDER BY test_accuracy DESC) AS place,
               run_id, status, test_accuracy, test_loss, architecture, epochs, batch_size,
               learning_rate, seed, fit_s, started_at
        FROM runs
        WHERE test_total > 0
    """,
    # The last measured run of each UTC day. Subqueries, not window functions: reading a few nights
    # takes a few index steps, however long the history is.
    "nightly": """
        SELECT dataset, DATE(started_at) AS night, started_at, run_id, status,
               test_accuracy,
               test_accuracy - (
                   SELECT b.test_accuracy FROM runs AS b
                   WHERE b.dataset = runs.dataset AND b.test_accuracy IS NOT NULL
                     AND b.started_at < DATE(runs.started_at)
                   ORDER BY b.started_at DESC LIMIT 1
               ) AS accuracy_change,
               test_loss,
               test_loss - (
                   SELECT b.test_loss FROM runs AS b
                   WHERE b.dataset = runs.dataset AND b.test_accuracy IS NOT NULL
                     AND b.started_at < DATE(runs.started_at)
                   ORDER BY b.started_at DESC LIMIT 1
               ) AS loss_change,
               duration_s, reason
        FROM runs
        WHERE test_accuracy IS NOT NULL AND COALESCE(
            DATE(started_at) < DATE((
                SELECT later.started_at FROM runs AS later
                WHERE later.dataset = runs.dataset AND later.test_accuracy IS NOT NULL
                  AND later.started_at > runs.started_at
                ORDER BY later.started_at LIMIT 1
            )), TRUE)
    """,
    # When each model was in use; the current champion has no end.
    "champions": """
        SELECT promotions.dataset, promotions.generation, promotions.version, promotions.kind,
               swapped_at AS in_use_from,
               LEAD(swapped_at) OVER (
                   PARTITION BY promotions.dataset ORDER BY promotions.generation
               ) AS in_use_until,
               runs.test_accuracy, runs.test_loss, runs.architecture, actor, promotions.reason
        FROM promotions LEFT JOIN runs ON runs.run_id = promotions.version
    """,
}


def upgrade() -> None:
    """Create the tables and the views."""
    op.create_table(
        "epochs",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("loss", sa.Float, nullable=False),
        sa.Column("accuracy", sa.Float, nullable=False),
        sa.Column("duration_s", sa.Float, nullable=False),
        # NaN and infinity exceed the bound (PostgreSQL) or are NULL (SQLite).
        sa.CheckConstraint("loss BETWEEN 0 AND 1e300", name="loss_is_finite"),
        sa.CheckConstraint("accuracy BETWEEN 0 AND 1", name="accuracy_is_a_share"),
    )
    op.create_table(
        "digit_metrics",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("digit", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("correct", sa.Integer, nullable=False),
        sa.Column("answers", sa.Integer, nullable=False),
        sa.Column("recall", sa.Float),
        sa.Column("precision", sa.Float),
        sa.CheckConstraint("digit BETWEEN 0 AND 9", name="digit_is_one"),
        sa.CheckConstraint("correct BETWEEN 0 AND images", name="correct_is_a_count"),
        sa.CheckConstraint("recall BETWEEN 0 AND 1", name="recall_is_a_share"),
        sa.CheckConstraint("precision BETWEEN 0 AND 1", name="precision_is_a_share"),
    )
    for name, (columns, condition) in INDICES.items():
        where = sa.text(condition)
        op.create_index(name, "runs", columns, sqlite_where=where, postgresql_where=where)
    op.create_index("promotions_by_time", "promotions", ["dataset", "swapped_at"])
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    """Drop them."""
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.drop_index("promotions_by_time", "promotions")
    for name in INDICES:
        op.drop_index(name, "runs")
    op.drop_table("digit_metrics")
    op.drop_table("epochs")
