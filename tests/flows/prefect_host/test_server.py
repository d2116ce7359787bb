"""What the server of `digits up` leaves in its log, and a server that does not start."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from flows.prefect_host.processes import rotate

WRITER = "import sys, time\nwhile True: print('line', flush=True); time.sleep(0.01)"


def test_a_log_is_rotated_above_10_mb_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    rotate(log)
    log.write_bytes(b"x" * 10_000_000)
    rotate(log)
    assert not (tmp_path / "server.log.1").exists()

    with log.open("ab") as output:
        writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=output)
    try:
        while log.stat().st_size == 10_000_000:
            time.sleep(0.05)
        rotate(log)
        assert (tmp_path / "server.log.1").read_bytes().startswith(b"xxx")
        while not log.stat().st_size:
            time.sleep(0.05)
        assert log.read_bytes().startswith(b"line\n")
    finally:
        writer.kill()
        writer.wait()


@pytest.mark.slow
def test_a_database_of_a_newer_prefect_is_one_line(digits, environment) -> None:
    home = Path(environment["PREFECT_HOME"])
    home.mkdir()
    with closing(sqlite3.connect(home / "prefect.db")) as sql, sql:
        sql.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        sql.execute("INSERT INTO alembic_version VALUES ('cafecafecafe')")

    done = digits("retrain", "--dataset", "mnist-5k")

    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert "Can't locate revision identified by 'cafecafecafe' (a newer Prefect has used" in message
    assert "Traceback" not in done.stderr
