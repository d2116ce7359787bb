"""Rows for programs: the options for JSON and CSV, and how they are printed."""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any

import click


def as_json_or_csv(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` and ``--csv``: its ``form`` is "json", "csv" or ""."""
    as_csv = click.option("--csv", "form", flag_value="csv", help="Print it as CSV, with a header.")
    as_json = click.option(
        "--json", "form", flag_value="json", default="", help="Print it as JSON."
    )
    return as_json(as_csv(command))


def print_json(value: Any) -> None:
    """Print a row, or a list of rows, as JSON; times in ISO 8601, UTC."""
    print(json.dumps(value, indent=2, default=_iso, allow_nan=False))


def print_records(records: Sequence[dict[str, Any]], form: str) -> None:
    """Print some rows as JSON, or as CSV with a header; times in ISO 8601, UTC."""
    if form == "json":
        print_json(records)
    elif records:
        columns = list(dict.fromkeys(column for record in records for column in record))
        writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in r.items()} for r in records)


def _iso(value: date) -> str:
    return value.isoformat()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value) if isinstance(value, dict | list) else value
