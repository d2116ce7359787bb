"""How well a run's probabilities are calibrated.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"

# Empty in the rows of earlier runs.
NEW_COLUMNS = (
    "calibration_error FLOAT CHECK (calibration_error BETWEEN 0 AND 1)",
    "temperature FLOAT CHECK (temperature > 0)",
)


def upgrade() -> None:
    """Create the columns."""
    # In SQL: Alembic's own operation would drop the CHECKs on SQLite.
    for column in NEW_COLUMNS:
        op.execute(f"ALTER TABLE runs ADD COLUMN {column}")


def downgrade() -> None:
    """Drop them."""
    for column in NEW_COLUMNS:
        op.execute(f"ALTER TABLE runs DROP COLUMN {column.split()[0]}")
