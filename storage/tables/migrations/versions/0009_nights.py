"""The night of a run in the schedule's time zone; views compare runs of one test set only.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

from storage.settings import night_of

revision = "0009"
down_revision = "0008"

LEADERBOARD = """
    SELECT dataset,
           RANK() OVER (PARTITION BY dataset ORDER BY test_accuracy DESC) AS place,
           run_id, status, test_accuracy, test_loss, architecture, epochs, batch_size,
           learning_rate, seed, fit_s, started_at
    FROM runs
    WHERE test_total > 0
"""
# The best first, of the newest test set; runs with the same accuracy share a place.
LEADERBOARD_OF_A_TEST_SET = f"""
    {LEADERBOARD} AND COALESCE(test_digest, '') = (
        SELECT COALESCE(b.test_digest, '') FROM runs AS b
        WHERE b.dataset = runs.dataset AND b.test_accuracy IS NOT NULL
        ORDER BY b.started_at DESC LIMIT 1
    )
"""  # noqa: S608
NIGHTLY = """
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
"""


def _before(value: str) -> str:
    """A value of the last measured run of an earlier night."""
    return f"""(
        SELECT {value} FROM runs AS b
        WHERE b.dataset = runs.dataset AND b.test_accuracy IS NOT NULL
          AND b.started_at < runs.started_at
          AND COALESCE(b.night, DATE(b.started_at)) < COALESCE(runs.night, DATE(runs.started_at))
        ORDER BY b.started_at DESC LIMIT 1
    )"""  # noqa: S608


SAME = "COALESCE(b.test_digest, '') = COALESCE(runs.test_digest, '')"
# The last measured run of each night. Subqueries, not window functions: reading a few nights
# takes a few index steps, however long the history is.
NIGHTLY_IN_THE_ZONE = f"""
    SELECT dataset, COALESCE(night, DATE(started_at)) AS night, started_at, run_id, status,
           test_accuracy,
           test_accuracy - {_before(f"CASE WHEN {SAME} THEN b.test_accuracy END")}
               AS accuracy_change,
           test_loss,
           test_loss - {_before(f"CASE WHEN {SAME} THEN b.test_loss END")} AS loss_change,
           COALESCE({_before(f"NOT {SAME}")}, FALSE) AS new_test_set,
           duration_s, reason
    FROM runs
    WHERE test_accuracy IS NOT NULL AND COALESCE(
        COALESCE(night, DATE(started_at)) < (
            SELECT COALESCE(later.night, DATE(later.started_at)) FROM runs AS later
            WHERE later.dataset = runs.dataset AND later.test_accuracy IS NOT NULL
              AND later.started_at > runs.started_at
            ORDER BY later.started_at LIMIT 1
        ), TRUE)
"""  # noqa: S608


def upgrade() -> None:
    """Create the column and fill it, and make the views anew."""
    op.execute("ALTER TABLE runs ADD COLUMN night DATE")
    runs = sa.table(
        "runs",
        sa.column("run_id"),
        sa.column("started_at", sa.DateTime(timezone=True)),
        sa.column("night", sa.Date),
    )
    connection = op.get_bind()
    started = connection.execute(sa.select(runs.c.run_id, runs.c.started_at)).all()
    nights = [{"id": run_id, "of": night_of(moment)} for run_id, moment in started]
    if nights:
        fill = sa.update(runs).where(runs.c.run_id == sa.bindparam("id"))
        connection.execute(fill.values(night=sa.bindparam("of")), nights)
    _make_views(LEADERBOARD_OF_A_TEST_SET, NIGHTLY_IN_THE_ZONE)


def downgrade() -> None:
    """Go back to days of UTC and one leaderboard."""
    _make_views(LEADERBOARD, NIGHTLY)
    op.execute("ALTER TABLE runs DROP COLUMN night")


def _make_views(leaderboard: str, nightly: str) -> None:
    for name, query in {"leaderboard": leaderboard, "nightly": nightly}.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS {query}")
