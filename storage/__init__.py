"""What outlives a run: the tables, the model store, the settings; and the tables in pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def read_table(name: str = "runs", url: str | None = None) -> pd.DataFrame:
    """Read a table or view of the metrics database as a DataFrame.

    Args:
        name: ``runs``, ``epochs``, ``digit_metrics``, ``promotions``, or a view:
            ``leaderboard``, ``nightly``, ``champions``. ``docs/metrics.md`` has their columns.
        url: SQLAlchemy URL; None means the settings' database.

    Returns:
        One row per row. Times are aware, in UTC; what has few values is a category;
        numbers that may be missing are pandas' nullable ones.

    Raises:
        InvalidParameterError: If there is no such table or view.
        DatabaseError: If the database cannot be read, or does not exist yet.
    """
    from storage.tables.frames import read_frame

    return read_frame(name, url)
