"""Where model stores keep their files: one seam, with a local folder behind it.

A key is a path with slashes, such as ``mnist/champion.json``. An object store becomes one more
``Backend``.
"""

# ruff: noqa: D102 - a backend's methods are documented in Backend
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from storage.errors import ModelStoreError
from storage.models import files
from storage.settings import Settings

LOCK_TIMEOUT_S = 60


@dataclass(frozen=True)
class Stored:
    """An object as it was read.

    Args:
        content: Its bytes.
        tag: What the backend compares it by, such as an ETag; None if it compares the content.
    """

    content: bytes
    tag: object = None


class Backend(Protocol):
    """Objects under keys. Every method raises OSError if it fails; ``str`` names the place.

    A write is whole or absent, and durable once the method has returned. Reads and listings see
    every earlier write.
    """

    local: Path
    """A folder on this machine for candidates, and for copies of remote versions."""

    def read(self, key: str) -> Stored | None:
        """Read an object; None if there is none."""

    def create(self, key: str, content: bytes) -> None:
        """Write a new object; raises FileExistsError if the key is in use."""

    def compare_and_swap(self, key: str, content: bytes, seen: Stored | None) -> bool:
        """Replace an object unless it changed since ``seen`` (None: it must not exist).

        False may also be the answer to a retry whose first attempt succeeded; callers read the
        object and look for their own write. After an error a read must show the final outcome.
        """

    def names(self, prefix: str) -> list[str]:
        """List the names directly below a prefix, objects and prefixes alike."""

    def delete(self, key: str) -> None:
        """Delete an object or everything below a prefix, if there is any."""

    def publish(self, folder: Path, key: str) -> None:
        """Store a local folder's files below a key; the folder may move there."""

    def withdraw(self, key: str, folder: Path) -> None:
        """Undo ``publish``."""

    def fetch(self, key: str) -> Path:
        """Return a local folder with the files below a key; it does not exist if they do not."""


@dataclass
class LocalFolder(Backend):
    """A folder on this machine. Writers take turns through a lock; readers need none."""

    local: Path

    def __str__(self) -> str:
        return str(self.local)

    def read(self, key: str) -> Stored | None:
        try:
            return Stored((self.local / key).read_bytes())
        except FileNotFoundError:
            return None

    def create(self, key: str, content: bytes) -> None:
        with self._locked(key):
            if (self.local / key).exists():
                raise FileExistsError(f"{self.local / key} exists already")
            files.replace(self.local / key, content)

    def compare_and_swap(self, key: str, content: bytes, seen: Stored | None) -> bool:
        with self._locked(key):
            if self.read(key) != seen:
                return False
            files.replace(self.local / key, content)
        return True

    def names(self, prefix: str) -> list[str]:
        try:
            found = [path.name for path in (self.local / prefix).iterdir()]
        except FileNotFoundError:
            return []
        except NotADirectoryError:  # a stray file beside the stores
            if not self.local.is_dir():
                raise
            return []
        return sorted(name for name in found if not name.startswith("."))

    def delete(self, key: str) -> None:
        path = self.local / key
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def publish(self, folder: Path, key: str) -> None:
        path = self.local / key
        files.make_folder(path.parent)
        folder.rename(path)
        files.sync(path.parent)

    def withdraw(self, key: str, folder: Path) -> None:
        (self.local / key).rename(folder)

    def fetch(self, key: str) -> Path:
        return self.local / key

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold the lock of the store that a key belongs to; its folders exist from then on."""
        files.make_folder((self.local / key).parent)
        lock = self.local / key.partition("/")[0] / ".lock"
        with FileLock(lock, timeout=LOCK_TIMEOUT_S):
            yield


def open_backend(settings: Settings) -> Backend:
    """Return the backend that the settings name."""
    return LocalFolder(settings.models)


@contextmanager
def store_errors(place: str) -> Iterator[None]:
    """Raise a backend's OSError as a ModelStoreError of one line."""
    try:
        yield
    except OSError as error:
        raise ModelStoreError(
            f"the model store {place} cannot be used: {error};"
            " check DIGITS_HOME and DIGITS_MODELS_URL, and the space on the disk"
        ) from error
