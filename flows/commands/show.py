"""``digits show``: everything about one run."""

import click

from flows.lookup import find_run, open_runs
from flows.output.formats import as_json_or_csv, print_json, print_records


@click.command()
@click.argument("run")
@as_json_or_csv
def show(run: str, form: str) -> None:
    """Show everything about one RUN, by the id that `digits history` lists."""
    from flows.output.display import print_run

    row = find_run(run)
    if form == "csv":
        print_records([row.as_dict()], form)
        return
    runs = open_runs()
    curve = [epoch.as_dict() for epoch in runs.epochs_of(run)]
    digits = [digit.as_dict() for digit in runs.digits_of(run)]
    robustness = [counts.as_dict() for counts in runs.robustness_of(run)]
    if form == "json":
        of_the_run = {"learning_curve": curve, "digits": digits, "robustness": robustness}
        print_json(row.as_dict() | of_the_run)
    else:
        print_run(row, curve, digits, robustness)
