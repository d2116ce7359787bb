"""``digits history`` and ``digits show``: the runs so far."""

from datetime import UTC, datetime
from typing import Any

import click

from flows.output.options import as_json_or_csv
from storage.errors import RunNotFoundError
from storage.records import Status
from storage.settings import read_settings

DATE = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--dataset", help="Only the runs of this dataset: a name, or the folder.")
@click.option(
    "--status",
    type=click.Choice([str(status) for status in Status]),
    help="Only the runs that ended so.",
)
@click.option("--since", type=DATE, help="Only runs that started on this day (UTC) or later.")
@click.option("--until", type=DATE, help="Only runs that started before this day (UTC).")
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="Runs at most."
)
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
    from flows.output.formats import print_records
    from tasks.data.sources import locate

    name = None if dataset is None else locate(dataset)[1]
    rows = []
    if has_runs():
        rows = open_runs().newest(
            limit,
            name=name,
            status=None if status is None else Status(status),
            since=_utc(since),
            until=_utc(until),
        )
    if form:
        print_records([row.as_dict() for row in rows], form)
    elif rows:
        print_history(rows)
    elif status or since or until:
        click.echo("No such runs.", err=True)
    else:
        of = "" if name is None else f" of {name}"
        click.echo(f"No runs{of} yet. Start one: digits retrain --dataset mnist-5k", err=True)


@click.command()
@click.argument("run")
@as_json_or_csv
def show(run: str, form: str) -> None:
    """Show everything about one RUN, as `digits history` names it."""
    from flows.output.display import print_run
    from flows.output.formats import print_json, print_records

    row = find_run(run)
    if form == "csv":
        print_records([row.as_dict()], form)
        return
    runs = open_runs()
    curve = [epoch.as_dict() for epoch in runs.epochs_of(run)]
    digits = [digit.as_dict() for digit in runs.digits_of(run)]
    if form == "json":
        print_json({**row.as_dict(), "learning_curve": curve, "digits": digits})
    else:
        print_run(row, curve, digits)


def find_run(run_id: str) -> Any:
    """Read the row of a run.

    Raises:
        RunNotFoundError: If there is none.
    """
    if not has_runs():
        raise RunNotFoundError(
            f"expected the id of a run, received {run_id!r}; there are no runs yet"
        )
    return open_runs().get(run_id)


def open_runs() -> Any:
    """The table of runs, as the settings say."""
    from storage.tables.database import open_database
    from storage.tables.runs import Runs

    settings = read_settings()
    return Runs(open_database(settings.database_url), settings.lease_s)


def has_runs() -> bool:
    """Whether there is a table to read."""
    from storage.tables.database import has_database

    return has_database(read_settings().database_url)


def _utc(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=UTC)
