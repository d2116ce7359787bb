"""Decoded: a dataset is decompressed once; from then on its arrays are mapped from files."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import DigitsError
from tasks.idx import FILES, read_images, read_labels, write_images, write_labels

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

DIGEST = "digest"
# Data that changes every night must not fill the disk.
KEPT_DATASETS = 3

log = logging.getLogger("digits")


def decoded(
    files: Sequence[Path], decode: Callable[[], Arrays], cache: Path | None
) -> tuple[Arrays, str]:
    """Decode a dataset, or map what was decoded earlier if its files are still the same.

    What is kept is four plain IDX files and their digest; where the digest does not hold, it is
    decoded anew. A cache that cannot be written costs time and nothing else.

    Args:
        files: What the dataset is decoded from; they are told apart by path, size and times.
        decode: Gives training images and labels, test images and labels.
        cache: The folder of all that is kept; None keeps nothing.

    Returns:
        The arrays, read-only where they are mapped, and their digest.
    """
    if cache is not None and (found := _mapped(cache / _key(files))):
        return found
    arrays = decode()
    sha = digest(*arrays)
    if cache is not None:
        try:
            _keep(arrays, sha, cache, _key(files))
        except OSError as error:
            log.warning("the decoded dataset could not be kept: %s", error)
    return arrays, sha


def digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 over dtype, shape and content of arrays, in their order; hexadecimal."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def _key(files: Sequence[Path]) -> str:
    """Changes when a file does; that of a file that is not there yet is nobody's."""
    parts = []
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            return "none"
        parts.append(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _mapped(kept: Path) -> tuple[Arrays, str] | None:
    if not kept.is_dir():
        return None
    try:
        sha = (kept / DIGEST).read_text()
        arrays = (
            read_images(kept / FILES["train_images"], mapped=True),
            read_labels(kept / FILES["train_labels"], mapped=True),
            read_images(kept / FILES["test_images"], mapped=True),
            read_labels(kept / FILES["test_labels"], mapped=True),
        )
        if digest(*arrays) == sha:
            (kept / DIGEST).touch()  # when it was used last
            return arrays, sha
        why = "its digest is another"
    except (OSError, ValueError, DigitsError) as error:  # NumPy maps no empty file
        why = str(error)
    log.warning("the decoded dataset in %s is damaged and decoded anew: %s", kept, why)
    shutil.rmtree(kept, ignore_errors=True)
    return None


def _keep(arrays: Arrays, sha: str, cache: Path, key: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as scratch:
        folder = Path(scratch) / key
        folder.mkdir()
        for (name, file), array in zip(FILES.items(), arrays, strict=True):
            write = write_images if name.endswith("images") else write_labels
            write(folder / file, array.tobytes())
        (folder / DIGEST).write_text(sha)
        if not (cache / key).exists():  # another run may have been faster
            folder.rename(cache / key)
    used = sorted(cache.glob(f"*/{DIGEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in used[KEPT_DATASETS:]:
        shutil.rmtree(path.parent, ignore_errors=True)
