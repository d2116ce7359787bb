"""Decoded: a dataset is decompressed once; from then on its arrays are mapped from files."""

import hashlib
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from storage.errors import DatasetUnavailableError, DigitsError
from tasks.data.dataset import digest
from tasks.data.idx import FILES, Arrays, read_all, write_images, write_labels

DIGEST = "digest"
OURS = re.compile(r"[0-9a-f]{32}|new-\w{8}")  # by key, and while they are written
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

    Raises:
        DatasetUnavailableError: If a file was replaced while they were read: labels and images
            of two datasets may be what came of it.
    """
    key = _key(files)
    if cache is not None and key and (found := _mapped(cache / key)):
        _prune(cache)
        return found
    arrays = decode()
    key_now = _key(files)  # where there was none, a download has made them
    if key and key != key_now:
        raise DatasetUnavailableError(
            f"{files[0].parent}: expected files that stay while they are read, received another"
            " one meanwhile; run again when all of them are there"
        )
    sha = digest(*arrays)
    if cache is not None and key_now:
        try:
            _keep(arrays, sha, cache / key_now)
        except OSError as error:
            log.warning("the decoded dataset could not be kept: %s", error)
        _prune(cache)
    return arrays, sha


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
        if kept.is_symlink() or kept.is_file():
            _refuse(kept, "it is no folder")
        sha = (kept / DIGEST).read_text()
        arrays = read_all({name: kept / file for name, file in FILES.items()}, mapped=True)
    except (FileNotFoundError, NotADirectoryError):
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
    _remove(kept)


def _keep(arrays: Arrays, sha: str, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="new-") as scratch:
        folder = Path(scratch) / kept.name
        folder.mkdir()
        for (name, file), array in zip(FILES.items(), arrays, strict=True):
            write = write_images if name.endswith("images") else write_labels
            write(folder / file, np.ascontiguousarray(array).data.cast("B"))
        (folder / DIGEST).write_text(sha)
        _remove(kept)  # what somebody took a file from
        try:
            folder.rename(kept)
        except OSError:
            if not (kept / DIGEST).exists():  # another run was faster
                raise


def _prune(cache: Path) -> None:
    """Keep those that were used last, and nothing that a kill left; what is not ours stays."""
    used = {}
    for folder in cache.glob("*"):
        if not OURS.fullmatch(folder.name):
            continue
        mark = folder / DIGEST
        with suppress(OSError):
            if mark.exists():
                used[folder] = mark.stat().st_mtime
            elif time.time() - folder.stat().st_mtime > ABANDONED_AFTER_S:
                _remove(folder)
    for folder in sorted(used, key=used.__getitem__, reverse=True)[KEPT_DATASETS:]:
        _remove(folder)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
