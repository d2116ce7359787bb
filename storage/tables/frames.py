"""The tables and views as pandas' DataFrames."""

from typing import Any

import pandas as pd
from sqlalchemy import Boolean, DateTime, Float, Integer, text
from sqlalchemy.types import TypeDecorator

from storage.errors import DatabaseError, InvalidParameterError
from storage.settings import read_settings
from storage.tables.database import explained, has_database, open_database
from storage.tables.schema import Base

VIEWS = {
    "leaderboard": {"place": "Int64"},
    "nightly": {"night": "datetime", "accuracy_change": "Float64", "loss_change": "Float64"},
    "champions": {"in_use_from": "datetime", "in_use_until": "datetime"},
}
DTYPES = {Integer: "Int64", Float: "Float64", Boolean: "boolean", DateTime: "datetime"}
CATEGORIES = ("status", "dataset", "architecture", "champion_rule", "source", "host", "kind")


def read_frame(name: str, url: str | None) -> pd.DataFrame:
    """Read a table or view: see ``storage.read_table``."""
    known = [*Base.metadata.tables, *VIEWS]
    if name not in known:
        raise InvalidParameterError(f"expected one of {', '.join(known)}, received {name!r}")
    url = url or read_settings().database_url
    if not has_database(url):
        raise DatabaseError("expected a metrics database, found none; run `digits retrain` first")
    engine = open_database(url).execution_options(readonly=True)
    with explained(engine.url), engine.connect() as connection:
        frame = pd.read_sql(text(f"SELECT * FROM {name}"), connection)  # noqa: S608 - it is known
    dtypes: dict[str, Any] = _dtypes() | VIEWS.get(name, {})
    for column in frame.columns:
        dtype = dtypes.get(column)
        if dtype == "datetime":
            frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601")
        elif dtype:
            frame[column] = frame[column].astype(dtype)
    return frame


def _dtypes() -> dict[str, Any]:
    """Of every column, by its name: a column has one meaning wherever it stands."""
    found: dict[str, Any] = {}
    for table in Base.metadata.tables.values():
        for column in table.columns:
            kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
            found |= ((column.name, dtype) for of, dtype in DTYPES.items() if isinstance(kind, of))
    return found | dict.fromkeys(CATEGORIES, "category")
