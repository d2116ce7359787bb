"""The metrics database while another program has it open: real processes, real locks."""

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

from storage.errors import DatabaseError
from storage.recipe import Recipe
from storage.records import Status
from storage.settings import Settings
from storage.tables import locks
from storage.tables.database import open_database
from storage.tables.runs import Runs

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "half-read":
    connection.execute("BEGIN")
    kept = connection.execute("SELECT * FROM runs")
    kept.fetchone()
else:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE runs SET reason = reason")
print("held", flush=True)
sys.stdin.read()
"""
LINEAGE = {"versions": {"python": "3.11"}, "host": "here"}


@dataclass
class Holder:
    process: "subprocess.Popen[str]"

    @property
    def name(self) -> str:
        return f"process {self.process.pid})"

    def release(self) -> None:
        self.process.communicate()


@contextmanager
def another_program(settings: Settings, how: str) -> Iterator[Holder]:
    """Hold the database as a notebook does (half-read), or a database browser (unsaved edit)."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, settings.home / "metrics.db", how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "held\n"
        yield Holder(process)
        process.stdin.close()


@pytest.fixture
def run_id(runs: Runs, new_recipe: Callable[..., Recipe]) -> str:
    runs.open(new_recipe(), **LINEAGE)  # a second row, so that a result can be half read
    return runs.open(new_recipe(), **LINEAGE)


@pytest.mark.parametrize("how", ["half-read", "unsaved edit"])
def test_a_write_waits_says_for_whom_and_is_made_when_the_file_is_free(
    settings: Settings,
    runs: Runs,
    run_id: str,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert locks.TELL_AFTER_S == 10
    monkeypatch.setattr(locks, "TELL_AFTER_S", 0.1)
    with another_program(settings, how) as holder, caplog.at_level(logging.WARNING, "digits"):
        writer = threading.Thread(target=runs.close, args=(run_id, Status.FAILED, "why"))
        writer.start()
        while holder.name not in caplog.text:
            assert writer.is_alive()
            time.sleep(0.02)
        # A person who looks meanwhile is let in, though the writer waits.
        assert [row.status for row in runs.newest(10)] == ["running", "running"]
        holder.release()
        writer.join()
    assert runs.get(run_id).status == "failed"


@pytest.mark.parametrize("how", ["half-read", "unsaved edit"])
def test_a_file_that_is_never_free_is_an_error_that_names_the_holder_and_changes_nothing(
    settings: Settings, runs: Runs, run_id: str, how: str
) -> None:
    impatient = Runs(open_database(settings.database_url, wait_s=0.2), 60)
    with another_program(settings, how) as holder:
        close = partial(impatient.close, run_id, Status.FAILED, "why")
        for act in (close, impatient.check_writable):
            with pytest.raises(DatabaseError) as refused:
                act()
            message = str(refused.value)
            assert holder.name in message
            assert str(settings.home / "metrics.db") in message
            assert "\n" not in message
    assert runs.get(run_id).status == "running"
    impatient.close(run_id, Status.FAILED, "why")


def test_a_holder_that_cannot_be_seen_is_said_to_be_another_users(tmp_path: Path) -> None:
    assert "no process that this user can see" in locks.holders(str(tmp_path / "nothing"))


def test_a_run_waits_for_a_quarter_of_an_hour(engine: Engine) -> None:
    assert open_database.__defaults__ == (900,)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder, while this process is not root, who may write everywhere."""
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        if root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)


@pytest.mark.parametrize("what", ["metrics.db", ""])
def test_a_database_that_cannot_be_written_is_found_before_anything_is_started(
    unprivileged: Path, what: str
) -> None:
    url = f"sqlite:///{unprivileged}/metrics.db"
    Runs(open_database(url), 60).check_writable()
    (unprivileged / what).chmod(0o555)
    runs = Runs(open_database(url), 60)
    assert runs.newest(1) == []
    with pytest.raises(DatabaseError, match="must be able to write the file and its folder"):
        runs.check_writable()
    (unprivileged / what).chmod(0o755)
    runs.check_writable()
