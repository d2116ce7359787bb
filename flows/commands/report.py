"""``digits report``: a run's report as one HTML file, readable without a Prefect server."""

from pathlib import Path

import click

from storage.errors import DigitsError, RunNotFoundError
from storage.settings import read_settings


@click.command()
@click.argument("run")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="The file to write.  [default: next to the run's report]",
)  # fmt: skip
@click.option("--open", "and_open", is_flag=True, help="Open it in the browser.")
def report(run: str, out: Path | None, and_open: bool) -> None:
    """Write the report of one RUN as a page that needs no network and no server."""
    folder = read_settings().home / "reports"
    source = folder / f"{run}.md"
    if Path(run).name != run or not source.is_file():
        raise RunNotFoundError(
            f"expected a run with a report in {folder}, received {run!r}; `digits history` lists"
            " the runs (a run that failed before the gate has no report)"
        )
    from flows.output.pages import report_page

    target = out or source.with_suffix(".html")
    try:
        target.write_text(report_page(source.read_text(encoding="utf-8")), encoding="utf-8")
    except OSError as error:
        raise DigitsError(f"cannot write {target}: {error.strerror}") from error
    click.echo(target)
    if and_open:
        import webbrowser

        webbrowser.open(target.absolute().as_uri())
