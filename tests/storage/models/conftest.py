"""One suite over every backend: a folder, and objects in memory that behave like a bucket's."""

import hashlib
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.models.backends import Backend, LocalFolder, Stored
from storage.models.store import ModelStore


class Memory(Backend):
    """Objects in memory. Like a bucket's, an ETag repeats when the content does."""

    def __init__(self, local: Path) -> None:
        self.local = local
        self.objects: dict[str, bytes] = {}
        self.lose_answer: Callable[[], bool] = lambda: False

    def __str__(self) -> str:
        return "memory:"

    def read(self, key: str) -> Stored | None:
        content = self.objects.get(key)
        return None if content is None else Stored(content, hashlib.sha256(content).hexdigest())

    def create(self, key: str, content: bytes) -> None:
        if key in self.objects:
            raise FileExistsError(key)
        self.objects[key] = content

    def compare_and_swap(self, key: str, content: bytes, seen: Stored | None) -> bool:
        found = self.read(key)
        if (found and found.tag) != (seen and seen.tag):
            return False
        self.objects[key] = content
        # The client repeats a swap without an answer, and the repetition is refused.
        return not self.lose_answer()

    def names(self, prefix: str) -> list[str]:
        start = f"{prefix}/" if prefix else ""
        below = (key.removeprefix(start) for key in self.objects if key.startswith(start))
        return sorted({name.partition("/")[0] for name in below})

    def delete(self, key: str) -> None:
        for name in [*self.objects]:
            if name == key or name.startswith(f"{key}/"):
                del self.objects[name]

    def publish(self, folder: Path, key: str) -> None:
        for path in sorted(folder.iterdir()):
            self.create(f"{key}/{path.name}", path.read_bytes())

    def withdraw(self, key: str, folder: Path) -> None:
        assert folder.is_dir(), "publishing copied it"
        self.delete(key)

    def fetch(self, key: str) -> Path:
        folder = self.local / key
        if not folder.exists() and (names := self.names(key)):
            fresh = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
            fresh.mkdir(parents=True)
            for name in names:
                if found := self.read(f"{key}/{name}"):
                    (fresh / name).write_bytes(found.content)
            try:
                fresh.rename(folder)
            except OSError:  # another process was faster
                shutil.rmtree(fresh, ignore_errors=True)
        return folder


class Objects:
    """The objects of one store, as somebody without our code would change them."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend, self._name = backend, name

    def __getitem__(self, key: str) -> bytes:
        found = self._backend.read(f"{self._name}/{key}")
        assert found, key
        return found.content

    def __setitem__(self, key: str, content: bytes) -> None:
        if isinstance(self._backend, Memory):
            self._backend.objects[f"{self._name}/{key}"] = content
        else:
            path = self._backend.local / self._name / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def __delitem__(self, key: str) -> None:
        assert self[key]
        self._backend.delete(f"{self._name}/{key}")

    def all(self) -> dict[str, bytes]:
        """Every object by its key."""
        return {key: self[key] for key in self._below("")}

    def versions(self) -> list[str]:
        """The versions that are there, whatever the state says."""
        return self._backend.names(f"{self._name}/versions")

    def state_file(self) -> str:
        """The only state that was written last."""
        return f"states/{max(self._backend.names(f'{self._name}/states'))}"

    def _below(self, prefix: str) -> list[str]:
        found = []
        for name in self._backend.names(f"{self._name}/{prefix}".rstrip("/")):
            key = f"{prefix}{name}"
            is_object = not self._backend.names(f"{self._name}/{key}")
            empty = (
                isinstance(self._backend, LocalFolder)
                and (self._backend.local / self._name / key).is_dir()
            )
            if not is_object:
                found += self._below(f"{key}/")
            elif not empty:
                found.append(key)
        return found


@pytest.fixture(params=["folder", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Each backend in turn."""
    local = tmp_path / "models"
    return LocalFolder(local) if request.param == "folder" else Memory(local)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    """The backend that can lose answers."""
    return Memory(tmp_path / "models")


@pytest.fixture
def store(backend: Backend) -> ModelStore:
    """A store without a champion, on each backend."""
    return ModelStore(backend, "mnist")


@pytest.fixture
def objects(backend: Backend) -> Objects:
    """The objects of ``store``."""
    return Objects(backend, "mnist")
