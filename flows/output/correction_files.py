"""Corrections as files: a folder of IDX files, or a CSV file with PNG pictures."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from serving.normalise import normalise, read_image
from storage.errors import ImageError, InvalidDataError
from storage.tables.corrections import NewCorrection
from storage.tables.schema import Correction
from tasks.data.idx import read_images, read_labels, write_images, write_labels

IMAGES, LABELS = "corrections-images-idx3-ubyte", "corrections-labels-idx1-ubyte"
COLUMNS = ("path", "label", "actor", "corrected_at")
LABEL_WORDS = {**{str(digit): digit for digit in range(10)}, "none": None}
# Marks the PNG files written here, which must not be normalised a second time.
NORMALISED = ("Description", "28 x 28 as the model takes it")


def write_corrections(rows: Sequence[Correction], target: Path) -> int:
    """Write corrections to ``target``, which is a folder unless it ends in ".csv".

    Returns:
        How many were left out: IDX files have no label for what is not a digit.
    """
    if target.suffix.lower() == ".csv":
        _write_csv(rows, target)
        return 0
    labels = [(row.image, row.label) for row in rows if row.label is not None]
    target.mkdir(parents=True, exist_ok=True)
    write_images(target / IMAGES, b"".join(image for image, _ in labels))
    write_labels(target / LABELS, bytes(label for _, label in labels))
    return len(rows) - len(labels)


def read_corrections(source: Path, actor: str) -> list[NewCorrection]:
    """Read a folder or CSV file; pictures of any size are normalised.

    Args:
        source: The folder or file.
        actor: Who corrected those for which the file has no name.

    Raises:
        InvalidDataError: If any of it cannot be used.
    """
    if source.is_dir():
        now = datetime.now(UTC)
        found = [NewCorrection(image, label, actor, now) for image, label in _read_idx(source)]
    else:
        found = list(_read_csv(source, actor))
        if not found:
            raise InvalidDataError(f"{source}: expected a line 'path,label' or more, received none")
    labels: dict[bytes, int | None] = {}
    for number, correction in enumerate(found, 1):
        first = labels.setdefault(correction.image.tobytes(), correction.label)
        if first != correction.label:
            raise InvalidDataError(
                f"{source}: expected one label for an image, received {_word(first)} and"
                f" {_word(correction.label)}; the second is correction {number:,}"
            )
    return found


def _write_csv(rows: Sequence[Correction], path: Path) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text(*NORMALISED)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            picture = folder / f"{row.digest[:16]}.png"
            Image.frombytes("L", (28, 28), row.image).save(picture, pnginfo=note)
            place = picture.relative_to(path.parent)
            writer.writerow((place, _word(row.label), row.actor, row.corrected_at.isoformat()))


def _word(label: int | None) -> str:
    return "none" if label is None else str(label)


def _read_idx(folder: Path) -> list[tuple[NDArray[np.uint8], int]]:
    if missing := [name for name in (IMAGES, LABELS) if not (folder / name).is_file()]:
        raise InvalidDataError(
            f"{folder}: expected a folder that `digits corrections export` wrote, or a CSV file;"
            f" received a folder without {' and '.join(missing)}"
        )
    images, labels = read_images(folder / IMAGES), read_labels(folder / LABELS).tolist()
    wrong = [label for label in labels if label > 9]
    if len(images) != len(labels) or wrong:
        found = f"a label {wrong[0]}" if wrong else f"{len(images)} images, {len(labels)} labels"
        raise InvalidDataError(
            f"{folder}: expected one label from 0 to 9 for each image, received {found}"
        )
    return list(zip(images, labels, strict=True))


def _read_csv(path: Path, actor: str) -> Iterator[NewCorrection]:
    try:
        # Spreadsheets save a byte order mark, and semicolons where the comma is decimal.
        text = path.read_text(encoding="utf-8-sig")
        lines = list(io.StringIO(text, newline=""))
        reader = csv.reader(lines, delimiter=_delimiter(lines))
        numbered = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidDataError(
            f"{path}: expected a CSV file in UTF-8, received: {error}"
        ) from error
    filled = [(number, line) for number, line in numbered if any(line)]
    columns: Sequence[str] = COLUMNS[:2]
    if filled and _is_header(filled[0][1]):
        columns = [cell.casefold() for cell in filled.pop(0)[1]]
    for number, line in filled:
        cells = dict(zip(columns, line, strict=False))
        try:
            known = cells.get("label", "").casefold() in LABEL_WORDS
            if any(line[len(columns) :]) or not known or not cells.get("path"):
                raise ValueError(
                    "expected 'path,label' with a label from 0 to 9, or none for what is not a"
                    f" digit, received {','.join(line)[:60]!r}"
                )
            yield _correction(path.parent, cells, actor)
        except (OSError, ValueError, ImageError) as error:
            raise InvalidDataError(f"{path}, line {number}: {error}") from error


def _delimiter(lines: Sequence[str]) -> str:
    """The first of comma, semicolon and tab that splits the first filled line into columns."""
    first = next((line for line in lines if line.strip(",;\t\r\n ")), "")
    for delimiter in ",;\t":
        cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        if _is_header(cells) or (len(cells) > 1 and cells[1].casefold() in LABEL_WORDS):
            return delimiter
    return ","


def _is_header(cells: Sequence[str]) -> bool:
    return {"path", "label"} <= {cell.casefold() for cell in cells}


def _correction(folder: Path, cells: Mapping[str, str], actor: str) -> NewCorrection:
    try:
        image = _read_picture(folder / cells["path"])
    except (OSError, ValueError, ImageError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(f"{cells['path']}: {reason}") from error
    label = LABEL_WORDS[cells["label"].casefold()]
    return NewCorrection(image, label, cells.get("actor") or actor, _when(cells))


def _when(cells: Mapping[str, str]) -> datetime:
    """When it was corrected: now if the file does not say; in UTC if it names no zone."""
    given = cells.get("corrected_at")
    if not given:
        return datetime.now(UTC)
    try:
        when = datetime.fromisoformat(given)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            "corrected_at: expected a date and time as 2026-11-25T09:00:00+00:00, received"
            f" {given!r}"
        ) from error


def _read_picture(path: Path) -> NDArray[np.uint8]:
    image = read_image(path.read_bytes())
    if NORMALISED in image.info.items() and image.size == (28, 28):
        return np.asarray(image.convert("L"))
    return normalise(image)
