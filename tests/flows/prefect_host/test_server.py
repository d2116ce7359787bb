"""What the server of `digits up` leaves in its log, and a server that does not start."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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


@pytest.mark.parametrize(
    "command", ["up", pytest.param("retrain --dataset mnist-5k", marks=pytest.mark.slow)]
)
def test_a_prefect_home_that_cannot_be_made_is_one_line(digits, command) -> None:
    done = digits(*command.split(), PREFECT_HOME="/proc/x")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: expected PREFECT_HOME to be a folder for Prefect's database, received /proc/x"
        " (No such file or directory)"
    )


class OldServer(BaseHTTPRequestHandler):
    """Stands in for a Prefect 2 server, which cannot be installed beside Prefect 3."""

    def do_GET(self) -> None:
        answers = {"/api/health": b"true", "/api/admin/version": b'"2.20.4"'}
        self.send_response(200 if self.path in answers else 404)
        self.end_headers()
        self.wfile.write(answers.get(self.path, b""))

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.mark.parametrize(
    "command", ["retrain --dataset mnist-5k", pytest.param("up", marks=pytest.mark.slow)]
)
def test_a_server_of_another_version_is_one_line(digits, command) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), OldServer) as server:
        Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        done = digits(*command.split(), PREFECT_API_URL=url)
        server.shutdown()

    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "Prefect server of version" in line]
    assert line.startswith("Error: expected a Prefect server of version 3.")
    assert f" at {url}, received 2.20.4; upgrade it" in line
    assert "Traceback" not in done.stderr


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
