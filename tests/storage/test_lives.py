"""Whether a run is called dead: real processes that are stopped, killed and continued."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from storage.lives import forget, process_lives, sign_of_life
from storage.recipe import Recipe
from storage.recovery import close_dead_runs
from storage.settings import Settings
from storage.tables.runs import Runs

LIVE = """
import sys
from pathlib import Path
from storage.lives import sign_of_life
with sign_of_life(Path(sys.argv[1]), sys.argv[2]):
    print("alive", flush=True)
    sys.stdin.read()
"""
HERE = {"versions": {"python": "3.11"}, "host": socket.gethostname()}


@contextmanager
def living(settings: Settings, run_id: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that does what a run does to show that it lives."""
    with subprocess.Popen(
        [sys.executable, "-c", LIVE, settings.home, run_id],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "alive\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def run_id(runs: Runs, new_recipe: Callable[..., Recipe]) -> str:
    return runs.open(new_recipe(max_hours=3), **HERE)


def expire(sql: sqlite3.Connection, **since: float) -> None:
    """Let the lease have run out this long ago; a negative time is the future."""
    then = datetime.now(UTC) - timedelta(**since)
    sql.execute("UPDATE runs SET lease_expires_at = ?", (f"{then:%Y-%m-%d %H:%M:%S.%f}",))


def test_a_stopped_process_is_not_called_dead_and_a_killed_one_is_at_once(
    runs: Runs, settings: Settings, sql: sqlite3.Connection, run_id: str
) -> None:
    with living(settings, run_id) as process:
        os.kill(process.pid, signal.SIGSTOP)
        expire(sql, hours=2)  # as after a suspend, or SIGSTOP longer than the lease
        assert process_lives(settings.home, run_id) is True
        assert close_dead_runs(runs, settings) == []
        runs.note(run_id)  # it goes on, and renews its lease
        assert close_dead_runs(runs, settings) == []
        process.kill()
        process.wait()
        assert process_lives(settings.home, run_id) is False
        assert [run.run_id for run in close_dead_runs(runs, settings)] == [run_id]
    row = runs.get(run_id)
    assert row.status == "lost"
    assert row.reason.startswith("its process ended without a final status")
    assert process_lives(settings.home, run_id) is None


def test_a_process_that_is_stopped_for_longer_than_its_hours_is_given_up_and_said_to_exist(
    runs: Runs, settings: Settings, sql: sqlite3.Connection, run_id: str
) -> None:
    with living(settings, run_id):
        expire(sql, hours=3.1)
        close_dead_runs(runs, settings)
    assert runs.get(run_id).status == "lost"
    assert "its process exists, but is stopped or hangs" in runs.get(run_id).reason


@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_a_lease_from_before_the_clock_was_set_back_is_closed_when_its_process_is_dead(
    runs: Runs, settings: Settings, sql: sqlite3.Connection, run_id: str, host: str
) -> None:
    with living(settings, run_id):
        expire(sql, days=-400)
        assert close_dead_runs(runs, settings) == []
    if host == "elsewhere":
        sql.execute("UPDATE runs SET host = 'elsewhere'")
        forget(settings.home, run_id)  # a folder that this machine does not see
    close_dead_runs(runs, settings)
    assert runs.get(run_id).status == "lost"


def test_a_run_of_another_machine_lives_as_long_as_its_lease(
    runs: Runs, settings: Settings, sql: sqlite3.Connection, run_id: str
) -> None:
    sql.execute("UPDATE runs SET host = 'elsewhere'")
    expire(sql, hours=-1)
    assert close_dead_runs(runs, settings) == []
    expire(sql, seconds=1)
    close_dead_runs(runs, settings)
    assert runs.get(run_id).reason.startswith("no heartbeat within DIGITS_LEASE_S")


def test_where_no_file_can_be_locked_the_lease_decides(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "running").touch()  # a file where the folder should be
    with sign_of_life(settings.home, "a"):
        assert process_lives(settings.home, "a") is None


def test_a_run_that_has_ended_leaves_no_file(settings: Settings) -> None:
    with sign_of_life(settings.home, "a"):
        assert process_lives(settings.home, "a") is True
    assert list((settings.home / "running").iterdir()) == []
