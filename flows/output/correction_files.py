"""Corrections as files: a folder of IDX files, or a CSV file with PNG pictures."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from serving.normalise import normalise, read_image
from storage.errors import ImageError, InvalidDataError
from storage.tables.schema import Correction
from tasks.data.idx import read_images, read_labels, write_images, write_labels

IMAGES, LABELS = "corrections-images-idx3-ubyte", "corrections-labels-idx1-ubyte"
HEADER = ["path", "label"]
# Marks the PNG files written here, which must not be normalised a second time.
NORMALISED = ("Description", "28 x 28 as the model takes it")


def write_corrections(rows: Sequence[Correction], target: Path) -> None:
    """Write corrections to ``target``, which is a folder unless it ends in ".csv"."""
    if target.suffix == ".csv":
        _write_csv(rows, target)
        return
    target.mkdir(parents=True, exist_ok=True)
    write_images(target / IMAGES, b"".join(row.image for row in rows))
    write_labels(target / LABELS, bytes(row.label for row in rows if row.label is not None))


def read_corrections(source: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Read a folder or CSV file; pictures of any size are normalised.

    Returns:
        Images, uint8, shape (n, 28, 28), and n labels from 0 to 9.

    Raises:
        InvalidDataError: If any of it cannot be used.
    """
    if source.is_dir():
        return _read_idx(source)
    pairs = list(_read_csv(source))
    return np.asarray([image for image, _ in pairs]), [label for _, label in pairs]


def _write_csv(rows: Sequence[Correction], path: Path) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text(*NORMALISED)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for row in rows:
            picture = folder / f"{row.digest[:16]}.png"
            Image.frombytes("L", (28, 28), row.image).save(picture, pnginfo=note)
            writer.writerow((picture.relative_to(path.parent), row.label))


def _read_idx(folder: Path) -> tuple[NDArray[np.uint8], list[int]]:
    images, labels = read_images(folder / IMAGES), read_labels(folder / LABELS).tolist()
    wrong = [label for label in labels if label > 9]
    if len(images) != len(labels) or wrong:
        found = f"a label {wrong[0]}" if wrong else f"{len(images)} images, {len(labels)} labels"
        raise InvalidDataError(
            f"{folder}: expected one label from 0 to 9 for each image, received {found}"
        )
    return images, labels


def _read_csv(path: Path) -> Iterator[tuple[NDArray[np.uint8], int]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidDataError(f"{path}: expected a CSV file, received: {error}") from error
    for number, line in enumerate(lines, start=1):
        if number == 1 and line == HEADER:
            continue
        if len(line) != 2 or line[1].strip() not in set("0123456789"):
            raise InvalidDataError(
                f"{path}, line {number}: expected 'path,label' with a label from 0 to 9,"
                f" received {','.join(line)[:60]!r}"
            )
        try:
            yield _read_picture(path.parent / line[0]), int(line[1])
        except (OSError, ValueError, ImageError) as error:
            raise InvalidDataError(f"{path}, line {number}: {line[0]}: {error}") from error


def _read_picture(path: Path) -> NDArray[np.uint8]:
    image = read_image(path.read_bytes())
    if NORMALISED in image.info.items() and image.size == (28, 28):
        return np.asarray(image.convert("L"))
    return normalise(image)
