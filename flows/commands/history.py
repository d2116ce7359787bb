"""``digits history``: the runs so far."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from flows.lookup import has_runs, open_runs
from flows.output.formats import as_json_or_csv, print_records
from storage.records import Status

if TYPE_CHECKING:
    from storage.tables.schema import Run

DATE = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--dataset", help="Only runs on this dataset: a name, or a folder.")
@click.option(
    "--status", type=click.Choice([str(status) for status in Status]),
    help="Only runs with this status.",
)  # fmt: skip
@click.option("--since", type=DATE, help="Only runs that started on this day (UTC) or later.")
@click.option("--until", type=DATE, help="Only runs that started before this day (UTC).")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True,
    help="Maximum number of runs.",
)  # fmt: skip
@as_json_or_csv
def history(
    dataset: str | None,
    status: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    form: str,
) -> None:
    """List the newest runs."""
    from flows.output.display import print_history
    from tasks.data.sources import locate

    name = None if dataset is None else locate(dataset)[1]
    only = None if status is None else Status(status)
    rows: Sequence[Run] = []
    if has_runs():
        rows = open_runs().newest(
            limit, name=name, status=only, since=_utc(since), until=_utc(until)
        )
    if form:
        print_records([row.as_dict() for row in rows], form)
    elif rows:
        print_history(rows)
    elif status or since or until:
        click.echo("No matching runs.", err=True)
    else:
        of = "" if name is None else f" of {name}"
        click.echo(f"No runs{of} yet. Start one: digits retrain --dataset mnist-5k", err=True)


def _utc(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=UTC)
