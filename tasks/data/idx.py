"""MNIST's own file format, IDX: http://yann.lecun.com/exdb/mnist/ (archived)."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetNotFoundError, DatasetUnavailableError, InvalidDataError
from storage.recipe import DATASET_CHOICES

Bytes = NDArray[np.uint8]
Arrays = tuple[Bytes, Bytes, Bytes, Bytes]

IMAGES_MAGIC = 0x00000803
LABELS_MAGIC = 0x00000801
FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def find_files(folder: Path) -> dict[str, Path]:
    """Find the four files of a dataset, each plain or with ``.gz``, by the keys of FILES.

    Raises:
        DatasetNotFoundError: If the folder or a file is missing, or a file is there twice.
    """
    expected = f"dataset: expected {DATASET_CHOICES}"
    try:
        if not folder.is_dir():
            raise DatasetNotFoundError(f"{expected}, received {folder}, which is not a folder")
        found = {}
        for key, name in FILES.items():
            paths = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
            if not paths:
                raise DatasetNotFoundError(
                    f"{expected}, received {folder}, which contains neither {name} nor {name}.gz"
                )
            if len(paths) > 1:
                raise DatasetNotFoundError(
                    f"{expected}, received {folder}, which contains both {name} and {name}.gz;"
                    " remove the one that is out of date"
                )
            found[key] = paths[0]
    except OSError as error:  # a name that is too long, a folder without read permission
        raise DatasetNotFoundError(
            f"{expected}, received {folder}, which is not a folder that can be read: {error}"
        ) from error
    return found


def read_all(files: dict[str, Path]) -> Arrays:
    """Read training images and labels, test images and labels from what ``find_files`` found.

    Raises:
        DatasetUnavailableError: If a file was replaced while it was read: its labels might
            belong to other images.
        InvalidDataError: If one is not a complete IDX file.
    """
    before = _state(files)
    arrays = (
        read_images(files["train_images"]),
        read_labels(files["train_labels"]),
        read_images(files["test_images"]),
        read_labels(files["test_labels"]),
    )
    if _state(files) != before:
        raise DatasetUnavailableError(
            f"{files['train_images'].parent}: expected files that do not change while they are"
            " read, received a replaced one; run again once all of them are in place"
        )
    return arrays


def _state(files: dict[str, Path]) -> list[tuple[int, ...]]:
    try:
        stats = [path.stat() for path in files.values()]
    except OSError:  # reading the missing file says more
        return []
    return [(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats]


def read_images(path: Path) -> Bytes:
    """Read an IDX file of images: uint8, shape (n, 28, 28), read-only; 0 is paper, 255 is ink.

    Raises:
        InvalidDataError: If it is not a complete IDX file of 28 x 28 images.
    """
    images = _read(path, IMAGES_MAGIC, 3)
    _, rows, columns = images.shape
    if (rows, columns) != (28, 28):
        raise InvalidDataError(
            f"{path}: expected images of 28 x 28 pixels, received {rows} x {columns}"
        )
    return images


def read_labels(path: Path) -> Bytes:
    """Read an IDX file of labels: uint8, shape (n,), read-only.

    Raises:
        InvalidDataError: If it is not a complete IDX file of labels.
    """
    return _read(path, LABELS_MAGIC, 1)


def _read(path: Path, magic: int, dimensions: int) -> Bytes:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidDataError(
            f"{path}: expected a readable IDX file, received: {error}; copy it again"
        ) from error
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise InvalidDataError(
            f"{path}: expected an IDX header of {start} bytes, received {len(content)} bytes"
        )
    header = np.frombuffer(content, ">u4", count=1 + dimensions)
    if header[0] != magic:
        raise InvalidDataError(
            f"{path}: expected the IDX magic number {magic:#010x}, received {header[0]:#010x}"
        )
    shape = tuple(int(size) for size in header[1:])
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise InvalidDataError(
            f"{path}: expected {expected} bytes for the shape {shape} in its header,"
            f" received {len(content)}; the file is truncated or damaged"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def write_images(path: Path, content: bytes) -> None:
    """Write images of 28 x 28 pixels, one byte each, as an IDX file."""
    header = np.array([IMAGES_MAGIC, len(content) // 784, 28, 28], ">u4")
    path.write_bytes(header.tobytes() + content)


def write_labels(path: Path, content: bytes) -> None:
    """Write labels, one byte each, as an IDX file."""
    path.write_bytes(np.array([LABELS_MAGIC, len(content)], ">u4").tobytes() + content)
