"""The tables and views as pandas DataFrames."""

from itertools import chain
from typing import Any

import pandas as pd
from sqlalchemy import Boolean, Column, Date, DateTime, Float, Integer, text
from sqlalchemy.types import TypeDecorator

from storage.errors import DatabaseError, InvalidParameterError
from storage.settings import read_settings
from storage.tables.database import database_errors, has_database, open_database
from storage.tables.schema import VIEWS, Base

TABLES = {**Base.metadata.tables, **VIEWS.tables}
DTYPES = {
    Integer: "Int64", Float: "Float64", Boolean: "boolean", DateTime: "datetime", Date: "datetime",
}  # fmt: skip


def read_frame(name: str, url: str | None) -> pd.DataFrame:
    """Read a table or view: see ``storage.read_table``."""
    if name not in TABLES:
        raise InvalidParameterError(f"expected one of {', '.join(TABLES)}, received {name!r}")
    url = url or read_settings().database_url
    if not has_database(url):
        raise DatabaseError("expected a metrics database, found none; run `digits retrain` first")
    engine = open_database(url).execution_options(readonly=True)
    with database_errors(engine.url), engine.connect() as connection:
        frame = pd.read_sql(text(f"SELECT * FROM {name}"), connection)  # noqa: S608 - it is known
    # A column has one meaning in all tables and views.
    known = {c.name: c for c in chain.from_iterable(table.columns for table in TABLES.values())}
    for column in frame.columns:
        dtype = _dtype(known[column])
        if dtype == "datetime":
            frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601")
        elif dtype:
            frame[column] = frame[column].astype(dtype)
    return frame


def _dtype(column: Column[object]) -> Any:
    if column.info.get("category"):
        return "category"
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    return next((dtype for of, dtype in DTYPES.items() if isinstance(kind, of)), None)
