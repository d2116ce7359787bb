"""``digits predict``: what the champion says to images, without TensorFlow or Prefect."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from flows.commands.champion import only_dataset
from flows.output.options import as_json_or_csv
from storage.errors import ImageError
from storage.settings import read_settings

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--dataset", help="Whose champion: a name, or the folder.  [default: the only one]")
@as_json_or_csv
def predict(files: tuple[str, ...], dataset: str | None, form: str) -> None:
    """Say which digit is on each of FILES.

    PNG, JPEG, WebP or BMP; a folder means every image in it and below, - is standard input.
    Any size and colour, dark on light or light on dark. Exits with 1 if one of them cannot be
    read or has no digit on it; the others are answered all the same.
    """
    from flows.output.formats import print_records
    from serving.champion import load_champion
    from storage.models.store import open_store

    settings = read_settings()
    champion = load_champion(open_store(settings, only_dataset(settings, dataset)))
    answers = [_answer(champion.classifier, file) for name in files for file in _files(name)]
    failed = [answer for answer in answers if "error" in answer]
    if form:
        print_records(answers, form)
    else:
        _print([answer for answer in answers if "error" not in answer])
        for answer in failed:
            click.echo(f"Error: {answer['file']}: {answer['error']}", err=True)
    if failed:
        sys.exit(1)


def _files(name: str) -> Iterator[str]:
    folder = Path(name)
    if name == "-" or not folder.is_dir():
        yield name
        return
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ImageError(f"{name}: expected images in the folder, found none")
    yield from map(str, found)


def _answer(classifier: Any, file: str) -> dict[str, Any]:
    """Digit, probability and runner-up as JSON values, or the error."""
    from serving.normalise import normalise, read_image
    from serving.prediction import predict_digit

    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        image = normalise(read_image(content))
    except (OSError, ValueError, ImageError) as error:
        # A path with a NUL is a ValueError.
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return {"file": file, "error": why}
    found = predict_digit(classifier, image)
    del found["probabilities"]
    return {"file": file, **found, "version": classifier.version.name}


def _print(answers: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from flows.output.display import print_table

    if not answers:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("file", no_wrap=True)
    table.add_column("digit", justify="right", style="bold")
    for heading in ("probability", "runner-up"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("version", no_wrap=True)
    for answer in answers:
        table.add_row(
            Text(answer["file"]),
            str(answer["digit"]),
            f"{answer['probability']:.4f}",
            f"{answer['runner_up']} ({answer['runner_up_probability']:.4f})",
            answer["version"],
        )
    print_table(table)
