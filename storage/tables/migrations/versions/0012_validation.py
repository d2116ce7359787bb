"""How networks do on training images that were held out.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"

# Empty in the rows of earlier runs, and of networks that train on all training images.
NEW_COLUMNS = {
    "runs": (
        "validation_total INTEGER CHECK (validation_total > 0)",
        "validation_accuracy FLOAT CHECK (validation_accuracy BETWEEN 0 AND 1)",
        "validation_loss FLOAT CHECK (validation_loss BETWEEN 0 AND 1e300)",
        "validation_disturbed_loss FLOAT CHECK (validation_disturbed_loss BETWEEN 0 AND 1e300)",
    ),
    "epochs": (
        "validation_loss FLOAT CHECK (validation_loss BETWEEN 0 AND 1e300)",
        "validation_accuracy FLOAT CHECK (validation_accuracy BETWEEN 0 AND 1)",
    ),
}


def upgrade() -> None:
    """Create the columns."""
    # In SQL: Alembic's own operation would drop the CHECKs on SQLite.
    for table, columns in NEW_COLUMNS.items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


def downgrade() -> None:
    """Drop them."""
    for table, columns in NEW_COLUMNS.items():
        for column in reversed(columns):
            op.execute(f"ALTER TABLE {table} DROP COLUMN {column.split()[0]}")
