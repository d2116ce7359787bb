"""Decoded: a dataset is decompressed once; from then on its arrays are mapped from files."""

import hashlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import DigitsError
from tasks.idx import FILES, Arrays, read_all, write_images, write_labels

DIGEST = "digest"
# Data that changes every night must not fill the disk.
KEPT_DATASETS = 3
ABANDONED_AFTER_S = 3600

log = logging.getLogger("digits")


def decoded(
    files: Sequence[Path], decode: Callable[[], Arrays], cache: Path | None
) -> tuple[Arrays, str]:
    """Decode a dataset, or map what was decoded earlier if its files are still the same.

    What is kept is four plain IDX files and their digest; where the digest does not hold, it is
    decoded anew. A cache that cannot be read or written costs time and nothing else.

    Args:
        files: What the dataset is decoded from; they are told apart by path, size and times.
        decode: Gives training images and labels, test images and labels.
        cache: The folder of all that is kept; None keeps nothing.

    Returns:
        The arrays, read-only where they are mapped, and their digest.
    """
    key = None if cache is None else _key(files)
    if cache is not None and key and (found := _mapped(cache / key)):
        return found
    arrays = decode()
    sha = digest(*arrays)
    # Files that were replaced meanwhile are not what was decoded.
    if cache is not None and key and _key(files) == key:
        try:
            _keep(arrays, sha, cache, key)
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


def _key(files: Sequence[Path]) -> str | None:
    """Changes when a file does; None where one is not there."""
    parts = []
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            return None
        parts.append(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _mapped(kept: Path) -> tuple[Arrays, str] | None:
    try:
        sha = (kept / DIGEST).read_text()
        arrays = read_all({name: kept / file for name, file in FILES.items()}, mapped=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("the decoded dataset in %s cannot be read: %s", kept, error)
        return None
    except (ValueError, DigitsError) as error:  # NumPy maps no empty file
        _refuse(kept, str(error))
        return None
    if digest(*arrays) != sha:
        _refuse(kept, "its digest is another")
        return None
    with suppress(OSError):  # it may be only for reading
        (kept / DIGEST).touch()  # when it was used last
    return arrays, sha


def _refuse(kept: Path, why: str) -> None:
    log.warning("the decoded dataset in %s is damaged and decoded anew: %s", kept, why)
    shutil.rmtree(kept, ignore_errors=True)


def _keep(arrays: Arrays, sha: str, cache: Path, key: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as scratch:
        folder = Path(scratch) / key
        folder.mkdir()
        for (name, file), array in zip(FILES.items(), arrays, strict=True):
            write = write_images if name.endswith("images") else write_labels
            write(folder / file, array.tobytes())
        (folder / DIGEST).write_text(sha)
        shutil.rmtree(cache / key, ignore_errors=True)  # what a kill left of it
        try:
            folder.rename(cache / key)
        except OSError:
            if not (cache / key / DIGEST).exists():  # another run was faster
                raise
    _prune(cache)


def _prune(cache: Path) -> None:
    """Keep those that were used last, and nothing that a kill left."""
    used = {}
    for folder in cache.iterdir():
        mark = folder / DIGEST
        with suppress(OSError):
            if mark.exists():
                used[folder] = mark.stat().st_mtime
            elif time.time() - folder.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(folder)
    for folder in sorted(used, key=used.__getitem__, reverse=True)[KEPT_DATASETS:]:
        shutil.rmtree(folder, ignore_errors=True)
