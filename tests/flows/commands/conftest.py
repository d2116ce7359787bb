"""A running `digits serve`, and models for it."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from storage.models.backends import LocalFolder
from storage.models.classifier import load_classifier
from storage.models.files import sha256
from storage.models.store import ModelStore


@dataclass(frozen=True)
class Server:
    """A running server: its process, a client for it, its home and its store."""

    process: Any
    client: httpx.Client
    home: Path
    store: ModelStore

    @property
    def address(self) -> tuple[str, int]:
        return str(self.client.base_url.host), int(self.client.base_url.port or 0)


@pytest.fixture(scope="session")
def promote(tiny_models) -> Callable[[ModelStore, str, int], None]:
    """Promote a tiny model, by its name and seed."""

    def promoted(store: ModelStore, name: str, seed: int) -> None:
        origin = {"weights_digest": name, "test_correct": 7, "test_total": 10}
        digest = store.stage(name, tiny_models(seed), origin)
        store.promote(name, digest, store.champion(), actor="retrain", reason="")

    return promoted


@pytest.fixture
def serve(started, promote, home: Path) -> Iterator[Callable[..., Server]]:
    """Start `digits serve` with the champion run-1."""
    store = ModelStore(LocalFolder(home / "models"), "mnist")
    promote(store, "run-1", 1)
    servers = []

    def start(*arguments: str, **settings: str) -> Server:
        process = started("serve", "--port", "0", *arguments, **settings)
        servers.append(Server(process, client_of(process), home, store))
        return servers[-1]

    yield start
    for server in servers:
        server.client.close()


@pytest.fixture(scope="module")
def server(started_once, promote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One `digits serve` with the champion run-1, shared by tests that leave it as it is."""
    home = tmp_path_factory.mktemp("home")
    store = ModelStore(LocalFolder(home / "models"), "mnist")
    promote(store, "run-1", 1)
    process = started_once(home, "serve", "--port", "0")
    with client_of(process) as client:
        yield Server(process, client, home, store)


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool], str], None]:
    """Wait until something is true."""

    def wait(done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def offline() -> Callable[[ModelStore, str, np.ndarray], list[float]]:
    """The probabilities that a version gives an image, without the server."""

    def probabilities(store: ModelStore, version: str, image: np.ndarray) -> list[float]:
        folder = store.version(version)
        classifier = load_classifier(folder, sha256(folder / "manifest.json"))
        return classifier.probabilities(image[None])[0].tolist()

    return probabilities


def client_of(process: Any) -> httpx.Client:
    process.wait_for("Ctrl-C stops it")
    (port,) = re.findall(r"http://[^ ]+:(\d+)", process.output)
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
