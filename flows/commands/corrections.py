"""``digits corrections``: list, accept, revoke, export and import corrected labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.lookup import current_user, dataset_names, only_dataset
from flows.output.formats import as_json_or_csv, print_records
from storage.errors import DigitsError, InvalidParameterError
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
    command = click.option(
        "--held", is_flag=True, help="Only those that wait until a person accepts them, and why."
    )(command)
    command = click.option("--revoked", is_flag=True, help="Include revoked corrections.")(command)
    return dataset_option(command)


@click.group(invoke_without_command=True)
@list_options
@click.pass_context
def corrections(context: click.Context, /, **options: Any) -> None:
    """List corrected labels, or accept, revoke, export and import them."""
    if context.invoked_subcommand is None:
        context.invoke(list_corrections, **options)
    elif any(options.values()):
        command = context.invoked_subcommand
        raise click.UsageError(f"give options after the command: digits corrections {command} ...")


@corrections.command("list")
@list_options
def list_corrections(
    dataset: str | None, revoked: bool, held: bool, html: Path | None, form: str
) -> None:
    """List the corrections, oldest first."""
    rows = _open(dataset).all(revoked=revoked)
    if held:
        rows = [row for row in rows if row.state == "held"]
    if html:
        from flows.output.pages import corrections_page

        html.write_text(corrections_page(rows), encoding="utf-8")
        click.echo(f"{len(rows):,} corrections: {html}")
    elif form:
        print_records([_record(row) for row in rows], form)
    elif rows:
        (_print_held if held else _print)(rows)
    elif held:
        click.echo("No corrections are held.", err=True)
    else:
        click.echo("No corrections yet. Draw digits and correct them: digits serve", err=True)


@corrections.command()
@dataset_option
@click.option("--actor", metavar="NAME", help="Accept all held corrections of this person.")
@click.argument("digests", nargs=-1, metavar="[DIGEST]...")
def accept(dataset: str | None, actor: str | None, digests: tuple[str, ...]) -> None:
    """Accept held corrections: later runs learn from them, whatever the champion answers.

    DIGEST is the digest that `digits corrections --held` prints, or its first characters.
    """
    if bool(digests) == bool(actor):
        raise click.UsageError("give the digests of corrections, or --actor NAME")
    table, by = _open(dataset), current_user()
    found = table.accept_actor(actor, by=by) if actor else table.accept(digests, by=by)
    for digest in found:
        click.echo(f"accepted {digest[:12]}")


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

    The CSV file has the columns `path`, `label` (`none` for what is not a digit), `actor` and
    `corrected_at`; its pictures are PNG files in a folder next to it. IDX files have images and
    digits only.
    """
    from flows.output.correction_files import write_corrections

    rows = _open(dataset).all()
    if not rows:
        raise DigitsError("expected corrections to export, found none")
    left_out = write_corrections(rows, target)
    click.echo(f"{len(rows) - left_out:,} corrections: {target}")
    if left_out:
        click.echo(f"left out {left_out:,} that are not a digit; FILE.csv holds them", err=True)


@corrections.command("import")
@dataset_option
@click.option(
    "--actor", help="Name recorded as the author.  [default: the file's, or else USER@HOST]"
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace corrections of the same images, revoked ones too; otherwise they stay.",
)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
def import_corrections(
    dataset: str | None, actor: str | None, overwrite: bool, source: Path
) -> None:
    """Import corrections from SOURCE, all or none: an exported folder, or a CSV file.

    The CSV file has the columns `path` and `label`, and if there is a header, also `actor` and
    `corrected_at`, separated by commas, semicolons or tabs. Paths are relative to it, and the
    pictures are normalised like MNIST's. The label is a digit, or `none` for no digit.
    """  # fmt: skip
    from flows.output.correction_files import read_corrections

    table = _open(dataset)
    given = read_corrections(source, actor or current_user())
    if actor:
        given = [replace(correction, actor=actor) for correction in given]
    stored = len(set(table.restore(given, overwrite=overwrite)))
    click.echo(f"{stored:,} corrections of {table.name} from {source}")
    if left := len({correction.image.tobytes() for correction in given}) - stored:
        click.echo(f"{left:,} were in the table already; --overwrite replaces them", err=True)


def _open(dataset: str | None) -> Corrections:
    from storage.tables.corrections import Corrections
    from storage.tables.database import open_database
    from storage.tables.runs import Runs

    settings = read_settings()
    name = only_dataset(settings, dataset)
    engine = open_database(settings.database_url)
    names = {*Runs(engine, settings.lease_s).names(), *dataset_names(settings, None)}
    if name not in names:
        raise InvalidParameterError(
            f"dataset: expected one that has runs ({', '.join(sorted(names)) or 'none yet'}),"
            f" received {name!r}"
        )
    return Corrections(engine, name)


def _record(row: Correction) -> dict[str, Any]:
    values = {column: value for column, value in row.as_dict().items() if column != "image"}
    return {**values, "state": row.state}


def _print(rows: Sequence[Correction]) -> None:
    from rich.table import Column

    from flows.output.display import print_rows

    columns = (
        "digest", Column("label", justify="right", style="bold"),
        Column("predicted", justify="right"), "version", "corrected", "actor",
    )  # fmt: skip
    lines = []
    for row in rows:
        state = f", {row.state}" if row.state in {"held", "revoked"} else ""
        corrected = f"{row.corrected_at:%Y-%m-%d %H:%M}{state}"
        line = row.digest[:12], _label(row), row.predicted, row.version, corrected, row.actor
        lines.append(line)
    print_rows(columns, lines)


def _print_held(rows: Sequence[Correction]) -> None:
    from rich.table import Column

    from flows.output.display import print_rows

    columns = (
        "digest", Column("label", justify="right", style="bold"), "champion", "corrected",
        "actor", "why",
    )  # fmt: skip
    lines = []
    for row in rows:
        asked = row.asked_probability
        answer = None if asked is None else f"{row.asked_answer} ({asked:.4f})"
        corrected = f"{row.corrected_at:%Y-%m-%d %H:%M}"
        lines.append((row.digest[:12], _label(row), answer, corrected, row.actor, row.held_why))
    print_rows(columns, lines, cut="why")


def _label(row: Correction) -> str:
    return "none" if row.label is None else str(row.label)
