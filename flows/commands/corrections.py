"""``digits corrections``: list, revoke, export and import corrected labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.lookup import current_user, only_dataset
from flows.output.formats import as_json_or_csv, print_records
from storage.errors import DigitsError
from storage.settings import read_settings

if TYPE_CHECKING:
    from storage.tables.corrections import Corrections
    from storage.tables.schema import Correction

dataset_option = click.option(
    "--dataset", help="A dataset's name or folder.  [default: the only one with a champion]"
)


def list_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the list."""
    command = as_json_or_csv(command)
    command = click.option(
        "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
        help="Write a page with the pictures.",
    )(command)  # fmt: skip
    command = click.option("--revoked", is_flag=True, help="Include revoked corrections.")(command)
    return dataset_option(command)


@click.group(invoke_without_command=True)
@list_options
@click.pass_context
def corrections(context: click.Context, /, **options: Any) -> None:
    """List corrected labels, or revoke, export and import them."""
    if context.invoked_subcommand is None:
        context.invoke(list_corrections, **options)
    elif any(options.values()):
        command = context.invoked_subcommand
        raise click.UsageError(f"give options after the command: digits corrections {command} ...")


@corrections.command("list")
@list_options
def list_corrections(dataset: str | None, revoked: bool, html: Path | None, form: str) -> None:
    """List the corrections, oldest first."""
    rows = _open(dataset).all(revoked=revoked)
    if html:
        from flows.output.pages import corrections_page

        html.write_text(corrections_page(rows), encoding="utf-8")
        click.echo(f"{len(rows):,} corrections: {html}")
        return
    if form:
        records = [{k: v for k, v in row.as_dict().items() if k != "image"} for row in rows]
        print_records(records, form)
    elif rows:
        _print(rows)
    else:
        click.echo("No corrections yet. Draw digits and correct them: digits serve", err=True)


@corrections.command()
@dataset_option
@click.argument("digests", nargs=-1, required=True, metavar="DIGEST...")
def revoke(dataset: str | None, digests: tuple[str, ...]) -> None:
    """Revoke corrections: they stay in the table, but are no longer trained on.

    DIGEST is the digest that `digits corrections` prints, or its first characters.
    """
    table = _open(dataset)
    for digest in digests:
        click.echo(f"revoked {table.revoke(digest)[:12]}")


@corrections.command()
@dataset_option
@click.argument("target", type=click.Path(path_type=Path))
def export(dataset: str | None, target: Path) -> None:
    """Write the corrections to TARGET: a folder for IDX files, or a CSV file.

    The CSV file has the columns `path` and `label`; its pictures are PNG files in a folder
    next to it.
    """
    from flows.output.correction_files import write_corrections

    rows = _open(dataset).all()
    if not rows:
        raise DigitsError("expected corrections to export, found none")
    write_corrections(rows, target)
    click.echo(f"{len(rows):,} corrections: {target}")


@corrections.command("import")
@dataset_option
@click.option("--actor", help="Name recorded as the author.  [default: USER@HOST]")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
def import_corrections(dataset: str | None, actor: str | None, source: Path) -> None:
    """Import corrections from SOURCE, all or none: an exported folder, or a CSV file.

    The CSV file has the columns `path` and `label`; paths are relative to it, and the pictures
    are normalised like MNIST's.
    """
    from flows.output.correction_files import read_corrections

    table = _open(dataset)
    images, labels = read_corrections(source)
    digests = table.add(images, labels, actor=actor or current_user())
    click.echo(f"{len(set(digests)):,} corrections of {table.name} from {source}")


def _open(dataset: str | None) -> Corrections:
    from storage.tables.corrections import Corrections
    from storage.tables.database import open_database

    settings = read_settings()
    name = only_dataset(settings, dataset)
    return Corrections(open_database(settings.database_url), name)


def _print(rows: Sequence[Correction]) -> None:
    from rich.table import Column

    from flows.output.display import print_rows

    columns = (
        "digest", Column("label", justify="right", style="bold"),
        Column("predicted", justify="right"), "version", "corrected", "actor",
    )  # fmt: skip
    lines = []
    for row in rows:
        corrected = f"{row.corrected_at:%Y-%m-%d %H:%M}{', revoked' if row.revoked_at else ''}"
        line = row.digest[:12], row.label, row.predicted, row.version, corrected, row.actor
        lines.append(line)
    print_rows(columns, lines)
