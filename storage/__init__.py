"""What outlives a run: metrics tables, model store, settings; ``read_table`` for pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def read_table(name: str = "runs", url: str | None = None) -> pd.DataFrame:
    """Read a table or view of the metrics database as a DataFrame.

    Args:
        name: A table (``runs``, ``epochs``, ``digit_metrics``, ``robustness``,
            ``promotions``, ``corrections``) or a view (``leaderboard``, ``nightly``,
            ``champions``); ``docs/metrics.md`` lists their columns.
        url: SQLAlchemy URL; None means the database in the settings.

    Returns:
        A frame with a row per row. Times are aware and in UTC, columns with few different
        values are categories, and numbers that may be missing have nullable types.

    Raises:
        InvalidParameterError: If there is no such table or view.
        DatabaseError: If the database cannot be read, or does not exist yet.
    """
    from storage.tables.frames import read_frame

    return read_frame(name, url)
