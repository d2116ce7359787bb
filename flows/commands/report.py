"""``digits report``: a run's report as one HTML file, for who has no Prefect server at hand."""

from html import escape
from pathlib import Path

import click

from storage.errors import DigitsError, RunNotFoundError
from storage.settings import read_settings

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem;
  color: light-dark(#22303c, #e4e8ec); background: light-dark(#fff, #15191d); }}
table {{ border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }}
th, td {{ padding: .3rem .7rem; border-bottom: 1px solid light-dark(#dde2e6, #343c44);
  text-align: left; vertical-align: top; }}
code {{ font-size: .9em; }}
img {{ max-width: 100%; border-radius: .5rem; }}
</style>
<main>
{body}
</main>
</html>
"""


@click.command()
@click.argument("run")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Where to write it.  [default: beside the run's report]",
)  # fmt: skip
@click.option("--open", "and_open", is_flag=True, help="Open it in the browser.")
def report(run: str, out: Path | None, and_open: bool) -> None:
    """Write the report of one RUN as a page that needs no network and no server."""
    folder = read_settings().home / "reports"
    source = folder / f"{run}.md"
    if Path(run).name != run or not source.is_file():
        raise RunNotFoundError(
            f"expected a run with a report in {folder}, received {run!r}; `digits history` lists"
            " the runs, and one that failed before the gate has none"
        )
    target = out or source.with_suffix(".html")
    try:
        target.write_text(page(source.read_text(encoding="utf-8")), encoding="utf-8")
    except OSError as error:
        raise DigitsError(f"expected to write {target}, received: {error}") from error
    click.echo(target)
    if and_open:
        import webbrowser

        webbrowser.open(target.absolute().as_uri())


def page(markdown: str) -> str:
    """One self-contained HTML page of a report."""
    # Comes with Rich, which prints Markdown with it.
    from markdown_it import MarkdownIt

    title = escape(markdown.partition("\n")[0].lstrip("# "))
    # "js-default" takes HTML in the text for text.
    return PAGE.format(title=title, body=MarkdownIt("js-default").render(markdown))
