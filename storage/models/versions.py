"""A version: a folder of files, and a manifest with their SHA-256 and their origin."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import DamagedModelError
from storage.models import files

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Version:
    """The content of a version, read once and checked against its digests.

    Args:
        name: The run that made it.
        manifest: What ``stage`` wrote about it.
        files: Content by file name.
    """

    name: str
    manifest: dict[str, Any]
    files: dict[str, bytes]


def write_version(
    folder: Path, name: str, write: Callable[[Path], None], origin: dict[str, Any]
) -> str:
    """Write a version into a new folder; a failure leaves nothing behind.

    Returns:
        SHA-256 of its manifest, hexadecimal; ``read_version`` checks every byte with it.
    """
    files.make_folder(folder.parent)
    folder.mkdir()
    try:
        write(folder)
        described = {
            path.name: {"sha256": files.sha256(path), "size_bytes": path.stat().st_size}
            for path in sorted(folder.iterdir())
        }
        manifest = {"version": name, "files": described, **origin}
        content = f"{json.dumps(manifest, indent=2, allow_nan=False)}\n".encode()
        (folder / MANIFEST).write_bytes(content)
        for path in [*folder.iterdir(), folder, folder.parent]:
            files.sync(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return hashlib.sha256(content).hexdigest()


def read_version(folder: Path, digest: str) -> Version:
    """Read a version and check every byte, beginning with the manifest's SHA-256.

    Raises:
        DamagedModelError: If a file is missing or does not match its digest.
    """
    try:
        manifest = json.loads(_read(folder / MANIFEST, digest))
        content = {
            name: _read(folder / name, described["sha256"])
            for name, described in manifest["files"].items()
        }
        return Version(manifest["version"], manifest, content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedModelError(
            f"{folder / MANIFEST}: expected the manifest of a version, received something else"
            f" ({error})"
        ) from error


def _read(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedModelError(
            f"{path}: expected a file of a version, received: {error.strerror}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise DamagedModelError(
            f"{path}: expected the SHA-256 {digest[:12]}..., received {found[:12]}...;"
            " the file was changed after it was written"
        )
    return content
