"""A whole run while another program has the metrics database open."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Waits for a run, and then holds the file for longer than the ten seconds of silence.
HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
while not connection.execute("SELECT count(*) FROM runs WHERE status = 'running'").fetchone()[0]:
    time.sleep(0.02)
if sys.argv[2] == "half-read":
    connection.execute("BEGIN")
    kept = connection.execute("SELECT * FROM runs, (VALUES (1), (2))")
    kept.fetchone()
else:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE runs SET reason = reason")
time.sleep(30)
"""


@pytest.mark.parametrize("how", ["half-read", "unsaved edit"])
def test_a_run_waits_for_the_program_that_holds_its_table_and_is_promoted(
    started, digits, home, how
):
    assert digits("history").returncode == 0
    easy = ("--epochs", "3", "--min-accuracy", "0.5", "--min-recall", "0")
    run = started("retrain", "--dataset", "mnist-5k", *easy, DIGITS_LEASE_S="5")
    run.wait_for("run 2")
    with subprocess.Popen([sys.executable, "-c", HOLD, home / "metrics.db", how]) as holder:
        run.wait_for(f"(process {holder.pid}); waiting for up to 900 s")
        assert holder.wait() == 0
    assert run.process.wait(600) == 0, run.output
    with closing(sqlite3.connect(home / "metrics.db")) as table:
        assert table.execute("SELECT status FROM runs").fetchall() == [("promoted",)]
