"""``digits predict``: predictions for image files, without TensorFlow or Prefect."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.lookup import only_dataset
from flows.output.formats import as_json_or_csv, print_records
from storage.errors import ImageError
from storage.settings import read_settings

if TYPE_CHECKING:
    from serving.champion import Champion

MAX_BYTES = 128 * 1024**2  # of a file; more than the largest uncompressed image
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--dataset", help="The champion's dataset: name or folder.  [default: the only one]")
@as_json_or_csv
def predict(files: tuple[str, ...], dataset: str | None, form: str) -> None:
    """Predict the digits in each of FILES, from left to right.

    PNG, JPEG, WebP or BMP, of any size and colour, dark on light or light on dark. A folder
    means all images in it and its subfolders, - standard input. "unsure" instead of a
    probability: this may not be a digit. Exits with 1 if a file cannot be read or shows no digit;
    the others are still predicted.
    """
    from serving.champion import load_champion
    from storage.models.store import open_store

    settings = read_settings()
    champion = load_champion(open_store(settings, only_dataset(settings, dataset)))
    predictions = [row for name in files for row in _rows(champion, name)]
    failed = [prediction for prediction in predictions if "error" in prediction]
    if form:
        print_records(predictions, form)
    else:
        if len(failed) < len(predictions):
            _print([prediction for prediction in predictions if "error" not in prediction])
        for prediction in failed:
            click.echo(f"Error: {_line(prediction['file'])}: {prediction['error']}", err=True)
    if failed:
        sys.exit(1)


def _rows(champion: Champion, name: str) -> Iterator[dict[str, Any]]:
    """The predictions of the file, or of the images in the folder; what fails is an error."""
    unreadable: list[OSError] = []
    found = [
        Path(folder, file)
        for folder, _, files in os.walk(name, onerror=unreadable.append)
        for file in files
    ]
    if name == "-" or (unreadable and isinstance(unreadable[0], NotADirectoryError)):
        yield from _predict(champion, name)
        return
    images = [path for path in found if path.suffix.lower() in SUFFIXES and not _is_pipe(path)]
    if skipped := len(found) - len(images):
        endings = ", ".join(sorted(SUFFIXES))
        click.echo(f"{name}: skipped {skipped:,} of {len(found):,} files, not {endings}", err=True)
    for path in sorted(images):
        yield from _predict(champion, str(path))
    for error in unreadable:
        yield {"file": error.filename, "error": error.strerror}
    if not images and not unreadable:
        yield {"file": name, "error": "expected images in the folder, found none"}


def _is_pipe(path: Path) -> bool:
    """Whether it is a named pipe: one that nothing writes to would be waited for."""
    try:
        return path.is_fifo()
    except OSError:  # reading it says more
        return False


def _predict(champion: Champion, file: str) -> Iterator[dict[str, Any]]:
    """The prediction of each digit as JSON values, or the error."""
    from serving.normalise import find_digits, read_image

    try:
        found = find_digits(read_image(_read(file)))
    except (OSError, ImageError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        yield {"file": file, "error": reason}
        return
    answers = [champion.predict(digit.image) for digit in found]
    text = "".join(str(answer["digit"]) for answer in answers)
    for digit, answer in zip(found, answers, strict=True):
        del answer["probabilities"]
        version = champion.pointer.version
        yield {"file": file, "text": text, **answer, **digit.box._asdict(), "version": version}


def _read(file: str) -> bytes:
    with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ImageError("expected an image file of at most 128 MiB, received a larger one")
    return content


def _print(predictions: list[dict[str, Any]]) -> None:
    from rich.table import Column

    from flows.output.display import print_rows

    columns: list[str | Column] = [
        "file", Column("digit", justify="right", style="bold"),
        Column("probability", justify="right"), "runner-up", "version",
    ]  # fmt: skip
    # If a picture has more than one: the number that they form, and where each of them is.
    several = any(len(found["text"]) > 1 for found in predictions)
    if several:
        columns += [Column("number", justify="right"), "box"]
    rows = []
    for found in predictions:
        runner_up = f"{found['runner_up']} ({found['runner_up_probability']:.4f})"
        probability = "unsure" if found["unsure"] else f"{found['probability']:.4f}"
        row = _line(found["file"]), found["digit"], probability, runner_up, found["version"]
        box = "{width} x {height} at {left}, {top}".format_map(found)
        rows.append((*row, found["text"], box) if several else row)
    print_rows(columns, rows)


def _line(file: str) -> str:
    """A file's name on one line: with its control characters as Python writes them."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: repr(found[0])[1:-1], file)
