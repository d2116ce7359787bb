"""``digits predict``: predictions for image files, without TensorFlow or Prefect."""

from __future__ import annotations

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
    """Predict the digit in each of FILES.

    PNG, JPEG, WebP or BMP, of any size and colour, dark on light or light on dark. A folder
    means all images in it and its subfolders, - standard input. Exits with 1 if a file cannot
    be read or shows no digit; the others are still predicted.
    """
    from serving.champion import load_champion
    from storage.models.store import open_store

    settings = read_settings()
    champion = load_champion(open_store(settings, only_dataset(settings, dataset)))
    predictions = [_predict(champion, file) for name in files for file in _files(name)]
    failed = [prediction for prediction in predictions if "error" in prediction]
    if form:
        print_records(predictions, form)
    else:
        if len(failed) < len(predictions):
            _print([prediction for prediction in predictions if "error" not in prediction])
        for prediction in failed:
            click.echo(f"Error: {prediction['file']}: {prediction['error']}", err=True)
    if failed:
        sys.exit(1)


def _files(name: str) -> Iterator[str]:
    if name == "-" or not Path(name).is_dir():
        yield name
        return
    found = sorted(path for path in Path(name).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ImageError(f"{name}: expected images in the folder, found none")
    yield from map(str, found)


def _predict(champion: Champion, file: str) -> dict[str, Any]:
    """The prediction as JSON values, or the error."""
    from serving.normalise import normalise, read_image

    try:
        image = normalise(read_image(_read(file)))
    except (OSError, ValueError, ImageError) as error:
        # A path with a NUL raises ValueError.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return {"file": file, "error": reason}
    prediction = champion.predict(image)
    del prediction["probabilities"]
    return {"file": file, **prediction, "version": champion.pointer.version}


def _read(file: str) -> bytes:
    with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ImageError("expected an image file of at most 128 MiB, received a larger one")
    return content


def _print(predictions: list[dict[str, Any]]) -> None:
    from rich.table import Column

    from flows.output.display import print_rows

    columns = (
        "file", Column("digit", justify="right", style="bold"),
        Column("probability", justify="right"), Column("runner-up", justify="right"), "version",
    )  # fmt: skip
    rows = []
    for found in predictions:
        runner_up = f"{found['runner_up']} ({found['runner_up_probability']:.4f})"
        probability = f"{found['probability']:.4f}"
        rows.append((found["file"], found["digit"], probability, runner_up, found["version"]))
    print_rows(columns, rows)
