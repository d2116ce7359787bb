"""The model store: immutable versions, and one pointer that names the champion.

    models/<dataset>/champion.json     the pointer; swapping it is the promotion
    models/<dataset>/versions/<run>/   model.keras, model.tflite, manifest.json
    models/<dataset>/staging/<run>/    a candidate, before the gate has accepted it

A reader opens the pointer, then the version it names. Versions never change, so it never
sees a mixture of two.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from storage.errors import ModelStoreError
from storage.records import Pointer

MANIFEST = "manifest.json"
POINTER = "champion.json"


class ModelStore:
    """The versions and the champion of one dataset.

    Args:
        models: Folder of all datasets' models.
        dataset: The dataset's name.

    Every method raises ModelStoreError if the folder cannot be read or written.
    """

    def __init__(self, models: Path, dataset: str) -> None:
        self.folder = models / dataset
        self._versions = self.folder / "versions"
        self._staging = self.folder / "staging"

    def stage(self, run_id: str, write: Callable[[Path], None], lineage: dict[str, Any]) -> Path:
        """Make a candidate: files on disk, with a manifest that holds their SHA-256.

        Args:
            run_id: Names the candidate, and the version that it may become.
            write: Writes the model's files into the folder that it is given.
            lineage: What the manifest says about the model's origin, as JSON values.

        Returns:
            The candidate's folder.
        """
        folder = self._staging / run_id
        with self._explained():
            folder.mkdir(parents=True)
            try:
                write(folder)
                files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
                manifest = {"version": run_id, "files": files, **lineage}
                _write(folder / MANIFEST, json.dumps(manifest, indent=2, allow_nan=False))
                _sync_tree(folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return folder

    def promote(self, run_id: str) -> Pointer:
        """Make the candidate the champion: it becomes a version, then the pointer is swapped.

        Returns:
            The new pointer, one generation above the one before.
        """
        version = self._versions / run_id
        with self._explained(), FileLock(self.folder / ".lock"):
            before = self.champion()
            candidate = self._staging / run_id
            pointer = Pointer(
                generation=before.generation + 1 if before else 1,
                version=run_id,
                digest=_sha256(candidate / MANIFEST),
            )
            fresh = self.folder / f".{POINTER}.{run_id}"
            try:
                # What can fail for want of space comes before the candidate is moved.
                _write(fresh, json.dumps(asdict(pointer), indent=2))
                self._versions.mkdir(exist_ok=True)
                candidate.rename(version)
                _sync(self._versions)
                fresh.replace(self.folder / POINTER)
            finally:
                fresh.unlink(missing_ok=True)
            _sync(self.folder)
        return pointer

    def discard(self, run_id: str) -> None:
        """Remove a candidate that is not to be promoted; nothing happens if there is none."""
        shutil.rmtree(self._staging / run_id, ignore_errors=True)

    def champion(self) -> Pointer | None:
        """Read the pointer; None before the first promotion.

        Raises:
            ModelStoreError: If it is there and cannot be understood.
        """
        path = self.folder / POINTER
        with self._explained():
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            pointer = Pointer(**json.loads(content))
            found = (type(pointer.generation), type(pointer.version), type(pointer.digest))
            if found != (int, str, str):
                raise TypeError(found)
        except (ValueError, TypeError) as error:
            raise ModelStoreError(
                f"{path}: expected JSON with generation, version and digest,"
                f" received {content[:80]!r}"
            ) from error
        return pointer

    def version(self, run_id: str) -> Path:
        """The folder of a version."""
        return self._versions / run_id

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ModelStoreError(
                f"the model store {self.folder} cannot be used: {error};"
                " check DIGITS_HOME and DIGITS_MODELS_URL, and the space on the disk"
            ) from error


def _describe(path: Path) -> dict[str, Any]:
    return {"sha256": _sha256(path), "size_bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
    _sync(path)


def _sync_tree(folder: Path) -> None:
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """Have the disk, not only the system's memory, hold a file or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
