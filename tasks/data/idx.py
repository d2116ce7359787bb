"""MNIST's own file format, IDX: http://yann.lecun.com/exdb/mnist/ (archived)."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetNotFoundError, InvalidDataError
from tasks.data.sources import EXPECTED

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

IMAGES_MAGIC = 0x00000803
LABELS_MAGIC = 0x00000801
FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def find_files(folder: Path) -> dict[str, Path]:
    """Find the four files of a dataset, each plain or with ``.gz``.

    Returns:
        Paths by the names that FILES gives.

    Raises:
        DatasetNotFoundError: If the folder or a file of it is missing.
    """
    try:
        if not folder.is_dir():
            raise DatasetNotFoundError(f"{EXPECTED}, received {folder}, which is no folder")
        found = {}
        for key, name in FILES.items():
            paths = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
            if not paths:
                raise DatasetNotFoundError(
                    f"{EXPECTED}, received {folder}, which holds no {name} and no {name}.gz"
                )
            found[key] = paths[0]
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise DatasetNotFoundError(
            f"{EXPECTED}, received {folder}, which is no folder that can be read: {error}"
        ) from error
    return found


def read_all(files: dict[str, Path], *, mapped: bool = False) -> Arrays:
    """Read the four files of a dataset.

    Args:
        files: By the names that FILES gives.
        mapped: See ``read_images``.

    Returns:
        Training images and labels, test images and labels; see ``read_images``, ``read_labels``.

    Raises:
        InvalidDataError: If one is not a whole IDX file.
    """
    return (
        read_images(files["train_images"], mapped=mapped),
        read_labels(files["train_labels"], mapped=mapped),
        read_images(files["test_images"], mapped=mapped),
        read_labels(files["test_labels"], mapped=mapped),
    )


def read_images(path: Path, *, mapped: bool = False) -> NDArray[np.uint8]:
    """Read an IDX file of images.

    Args:
        path: The file, plain or with ``.gz``.
        mapped: Leave the content of a plain file where it is, read-only: who changes the file
            changes the array.

    Returns:
        uint8, shape (n, 28, 28); 0 is paper, 255 is ink.

    Raises:
        InvalidDataError: If it is not a whole IDX file of 28 x 28 images.
    """
    array = _read(path, IMAGES_MAGIC, 3, mapped)
    if array.shape[1:] != (28, 28):
        rows, columns = array.shape[1:]
        raise InvalidDataError(
            f"{path}: expected images of 28 x 28 pixels, received {rows} x {columns}"
        )
    return array


def read_labels(path: Path, *, mapped: bool = False) -> NDArray[np.uint8]:
    """Read an IDX file of labels.

    Args:
        path: See ``read_images``.
        mapped: Likewise.

    Returns:
        uint8, shape (n,).

    Raises:
        InvalidDataError: If it is not a whole IDX file of labels.
    """
    return _read(path, LABELS_MAGIC, 1, mapped)


def _read(path: Path, magic: int, dimensions: int, mapped: bool) -> NDArray[np.uint8]:
    content = np.memmap(path, np.uint8, mode="r") if mapped else _content(path)
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


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidDataError(
            f"{path}: expected a readable IDX file, received: {error}; copy it again"
        ) from error


def write_images(path: Path, content: bytes | memoryview) -> None:
    """Write images of 28 x 28, a byte for each pixel, as an IDX file."""
    _write(path, [IMAGES_MAGIC, len(content) // 784, 28, 28], content)


def write_labels(path: Path, content: bytes | memoryview) -> None:
    """Write labels, a byte for each, as an IDX file."""
    _write(path, [LABELS_MAGIC, len(content)], content)


def _write(path: Path, header: list[int], content: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(np.array(header, ">u4").tobytes())
        file.write(content)
