"""A version: a folder of files, and a manifest with the SHA-256 of each and their origin."""

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
    """The content of a version, read once and found to be what its digests say.

    Args:
        name: The run that made it.
        manifest: Its origin and what it is, as ``stage`` wrote it.
        files: Content by the file's name.
    """

    name: str
    manifest: dict[str, Any]
    files: dict[str, bytes]


def write_version(
    folder: Path, name: str, write: Callable[[Path], None], origin: dict[str, Any]
) -> str:
    """Write a version into a new folder; nothing is left of it if that fails.

    Returns:
        SHA-256 of its manifest, hexadecimal: with it ``read_version`` checks everything.
    """
    files.make_folder(folder.parent)
    folder.mkdir()
    try:
        write(folder)
        described = {path.name: _describe(path) for path in sorted(folder.iterdir())}
        text = json.dumps(
            {"version": name, "files": described, **origin}, indent=2, allow_nan=False
        )
        content = f"{text}\n".encode()
        files.write(folder / MANIFEST, content)
        for path in [*folder.iterdir(), folder, folder.parent]:
            files.sync(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return hashlib.sha256(content).hexdigest()


def read_version(folder: Path, digest: str) -> Version:
    """Read a version, and check each byte of it.

    Args:
        folder: Where it lies.
        digest: SHA-256 of its manifest.

    Raises:
        DamagedModelError: If a file is missing or is not what its digest says.
    """
    try:
        manifest = json.loads(_read(folder / MANIFEST, digest))
        content = {
            name: _read(folder / name, described["sha256"])
            for name, described in manifest["files"].items()
        }
        return Version(manifest["version"], manifest, content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedModelError(
            f"{folder / MANIFEST}: expected a manifest of ours, received something else ({error})"
        ) from error


def _read(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedModelError(
            f"{path}: expected a file of a version, received: {error}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise DamagedModelError(
            f"{path}: expected the SHA-256 {digest[:12]}..., received {found[:12]}...;"
            " the file was changed after it was written"
        )
    return content


def _describe(path: Path) -> dict[str, Any]:
    return {"sha256": files.sha256(path), "size_bytes": path.stat().st_size}
