"""A whole run on a disk that is full, or that may only be read: a real small file system."""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flows.retrain import retrain
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a file system can be mounted by root alone: {done.stderr.strip()}")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of the models on a disk of 24 MB."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    folder = tmp_path / "models"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder))
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DIGITS_MODELS_URL", str(folder))
    monkeypatch.delenv("DIGITS_DATABASE_URL", raising=False)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def run(**parameters):
    return retrain(
        dataset="mnist-5k", min_accuracy=0.5, min_recall=0.0, **parameters, return_state=True
    )


def newest_row(tmp_path: Path) -> tuple[str, str]:
    with closing(sqlite3.connect(tmp_path / "home/metrics.db")) as sql:
        found: tuple[str, str] = sql.execute(
            "SELECT status, reason FROM runs ORDER BY started_at DESC LIMIT 1"
        ).fetchone()
    return found


def test_on_a_full_disk_the_champion_stays_and_the_row_says_why(tmp_path, models):
    assert run(epochs=1).name == "Promoted"
    store = ModelStore(LocalFolder(models), "mnist-5k")
    champion = store.champion()
    (models / "ballast").write_bytes(bytes(shutil.disk_usage(models).free - 100_000))

    state = run(epochs=2)

    assert state.name == "Failed"
    assert "No space left on device" in state.message
    assert "\n" not in state.message
    assert newest_row(tmp_path) == ("failed", state.message)
    assert store.read_champion()[0] == champion
    assert not list((store.folder / "staging").iterdir())

    (models / "ballast").unlink()
    assert run(epochs=5).name == "Promoted", "with room it goes on"


def test_on_a_read_only_disk_the_champion_stays_and_the_row_says_why(tmp_path, models):
    assert run(epochs=1).name == "Promoted"
    store = ModelStore(LocalFolder(models), "mnist-5k")
    champion = store.champion()
    mount("-o", "remount,ro", str(models))

    state = run(epochs=2)

    assert state.name == "Failed"
    assert "Read-only file system" in state.message
    assert newest_row(tmp_path) == ("failed", state.message)
    assert store.read_champion()[0] == champion
