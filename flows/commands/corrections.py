"""``digits corrections``: what people said is wrong, to look at, take back, export and import."""

import csv
from pathlib import Path
from typing import Any

import click

from flows.commands.champion import only_dataset, whoever
from flows.output.options import as_json_or_csv
from storage.errors import DigitsError, ImageError, InvalidDataError
from storage.settings import read_settings

IMAGES, LABELS = "corrections-images-idx3-ubyte", "corrections-labels-idx1-ubyte"
# In the PNG files that we write: they are not to be normalised a second time.
AS_IT_IS = ("Description", "28 x 28 as the model takes it")
of_dataset = click.option(
    "--dataset", help="Whose: a name, or the folder.  [default: the only one with a champion]"
)


@click.group(invoke_without_command=True)
@click.pass_context
def corrections(context: click.Context) -> None:
    """What people said is wrong: list, revoke, export, import."""
    if context.invoked_subcommand is None:
        context.invoke(list_them)


@corrections.command("list")
@of_dataset
@click.option("--revoked", is_flag=True, help="Those that were taken back too.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write a page with their pictures.",
)  # fmt: skip
@as_json_or_csv
def list_them(dataset: str | None, revoked: bool, html: Path | None, form: str) -> None:
    """List the corrections, oldest first."""
    from flows.output.formats import print_records

    rows = _open(dataset).all(revoked=revoked)
    if html:
        from flows.output.corrections_page import page

        html.write_text(page(rows), encoding="utf-8")
        click.echo(f"{len(rows):,} corrections: {html}")
        return
    records = [{k: v for k, v in row.as_dict().items() if k != "image"} for row in rows]
    if form:
        print_records(records, form)
    elif records:
        _print(records)
    else:
        click.echo("No corrections yet. Draw and correct: digits serve", err=True)


@corrections.command()
@of_dataset
@click.argument("digests", nargs=-1, required=True, metavar="DIGEST...")
def revoke(dataset: str | None, digests: tuple[str, ...]) -> None:
    """Take corrections back: they stay in the table, and are learnt from no longer.

    DIGEST is as much of it as `digits corrections` shows.
    """
    kept = _open(dataset)
    for digest in digests:
        click.echo(f"revoked {kept.revoke(digest)[:12]}")


@corrections.command()
@of_dataset
@click.argument("target", type=click.Path(path_type=Path))
def export(dataset: str | None, target: Path) -> None:
    """Write the corrections to TARGET: a folder of IDX files, or FILE.csv and its pictures.

    The CSV has a line `path,label` for each; the pictures are PNG files beside it.
    """
    rows = _open(dataset).all()
    if not rows:
        raise DigitsError("expected corrections to export, found none")
    if target.suffix == ".csv":
        _export_csv(rows, target)
    else:
        _export_idx(rows, target)
    click.echo(f"{len(rows):,} corrections: {target}")


@corrections.command("import")
@of_dataset
@click.option("--actor", help="Who says so.  [default: you, at this machine]")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
def import_them(dataset: str | None, actor: str | None, source: Path) -> None:
    """Take in corrections, all or none: a folder as `export` writes it, or a CSV file.

    The CSV has lines `path,label`; a path is taken from the CSV's folder, and the picture made
    as MNIST's are.
    """
    import numpy as np

    kept = _open(dataset)
    images, labels = _read_idx(source) if source.is_dir() else _read_csv(source)
    digests = kept.add(np.asarray(images), labels, actor=actor or whoever())
    click.echo(f"{len(set(digests)):,} corrections of {kept.dataset} from {source}")


def _open(dataset: str | None) -> Any:
    from storage.tables.corrections import Corrections
    from storage.tables.database import open_database

    settings = read_settings()
    name = only_dataset(settings, dataset)
    return Corrections(open_database(settings.database_url), name)


def _print(records: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from flows.output.display import print_table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("digest", no_wrap=True)
    table.add_column("is", justify="right", style="bold")
    table.add_column("was said", justify="right", no_wrap=True)
    for heading in ("by", "when", "who"):
        table.add_column(heading, no_wrap=True)
    for record in records:
        said, revoked = record["predicted"], record["revoked_at"]
        when = f"{record['corrected_at']:%Y-%m-%d %H:%M}"
        table.add_row(
            record["digest"][:12],
            str(record["label"]),
            "" if said is None else str(said),
            record["version"] or "",
            when + (", revoked" if revoked else ""),
            Text(record["actor"]),
        )
    print_table(table)


def _export_idx(rows: Any, folder: Path) -> None:
    from tasks.data.idx import write_images, write_labels

    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder / IMAGES, b"".join(row.image for row in rows))
    write_labels(folder / LABELS, bytes(row.label for row in rows))


def _export_csv(rows: Any, path: Path) -> None:
    from PIL import Image, PngImagePlugin

    note = PngImagePlugin.PngInfo()
    note.add_text(*AS_IT_IS)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label"))
        for row in rows:
            picture = folder / f"{row.digest[:16]}.png"
            Image.frombytes("L", (28, 28), row.image).save(picture, pnginfo=note)
            writer.writerow((picture.relative_to(path.parent), row.label))


def _read_idx(folder: Path) -> tuple[Any, list[int]]:
    from tasks.data.idx import read_images, read_labels

    images, labels = read_images(folder / IMAGES), read_labels(folder / LABELS).tolist()
    wrong = [label for label in labels if label > 9]
    if len(images) != len(labels) or wrong:
        found = f"a label {wrong[0]}" if wrong else f"{len(images)} and {len(labels)}"
        raise InvalidDataError(
            f"{folder}: expected as many labels from 0 to 9 as images, received {found}"
        )
    return images, labels


def _read_csv(path: Path) -> tuple[list[Any], list[int]]:
    import numpy as np

    from serving.normalise import normalise, read_image

    images, labels = [], []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidDataError(f"{path}: expected a CSV file, received: {error}") from error
    for number, line in enumerate(lines, start=1):
        if number == 1 and line == ["path", "label"]:
            continue
        if len(line) != 2 or line[1].strip() not in set("0123456789"):
            raise InvalidDataError(
                f"{path}, line {number}: expected 'path,label' with a label from 0 to 9,"
                f" received {','.join(line)[:60]!r}"
            )
        try:
            image = read_image((path.parent / line[0]).read_bytes())
            as_it_is = AS_IT_IS in image.info.items() and image.size == (28, 28)
            images.append(np.asarray(image.convert("L")) if as_it_is else normalise(image))
        except (OSError, ValueError, ImageError) as error:
            raise InvalidDataError(f"{path}, line {number}: {line[0]}: {error}") from error
        labels.append(int(line[1]))
    return images, labels
