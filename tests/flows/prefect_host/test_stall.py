"""A night that waits for ever, and those after it: real server, worker, download and message."""

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PREFECT = str(Path(sys.executable).with_name("prefect"))


@pytest.fixture
def trickling_proxy() -> Iterator[str]:
    """A proxy that lets MNIST through byte by byte: no socket's time-out ends the download."""

    def trickle(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if b"storage.googleapis.com" not in connection.recv(4096):
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                connection.sendall(b".")
                time.sleep(0.5)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=trickle, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def hook() -> Iterator[tuple[str, list[str]]]:
    """The address of a webhook, and the messages that it has received."""
    received: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()
    server.server_close()


def rows(home: Path) -> list[tuple[str, str]]:
    """Status and reason of each run, oldest first."""
    path = home / "metrics.db"
    with closing(sqlite3.connect(path, timeout=30)) as table:
        return table.execute("SELECT status, reason FROM runs ORDER BY started_at").fetchall()


def wait_for(what: Callable[[], object], expected: str) -> None:
    deadline = time.monotonic() + 600
    while not what():
        assert time.monotonic() < deadline, f"never came: {expected}"
        time.sleep(0.5)


def start_night(environment: dict[str, str], *parameters: str) -> None:
    given = [part for parameter in parameters for part in ("-p", parameter)]
    subprocess.run(
        [PREFECT, "deployment", "run", "retrain/nightly", *given],
        check=True, env=environment, capture_output=True, timeout=600,
    )  # fmt: skip


def test_a_stalled_download_fails_within_its_time_and_the_nights_beside_and_after_it_are_seen(
    started, digits, environment, home, free_port, trickling_proxy, hook, tmp_path
):
    (tmp_path / "keras").mkdir()
    address, received = hook
    up = started(
        "up", "--port", str(free_port), DIGITS_LEASE_S="8", KERAS_HOME=str(tmp_path / "keras"),
        HTTPS_PROXY=trickling_proxy, NO_PROXY="127.0.0.1",
    )  # fmt: skip
    up.wait_for("started!")
    assert digits("notify", address).returncode == 0

    start_night(environment, "max_hours=0.05")  # the step load may take 45 s of these three minutes
    wait_for(lambda: (home / "metrics.db").exists() and rows(home), "the first night begins")
    start_night(environment, "max_hours=0.05")
    wait_for(lambda: len(rows(home)) == 2, "the second night has a row")
    (running, _), (status, reason) = rows(home)
    assert (running, status) == ("running", "cancelled")
    assert reason.startswith("skipped: run 2")
    assert reason in digits("history", "--json").stdout
    wait_for(lambda: any(reason in message for message in received), "the second night's message")

    wait_for(lambda: rows(home)[0][0] != "running", "the first night ends")
    status, reason = rows(home)[0]
    assert status == "failed"
    assert reason.startswith("time limit: expected the step load to end within 45 s")
    wait_for(lambda: any(reason in message for message in received), "the first night's message")

    start_night(environment, "dataset=mnist-5k", "epochs=1", "min_accuracy=0.5", "min_recall=0")
    wait_for(lambda: [s for s, _ in rows(home)][2:] == ["promoted"], "the third night runs")
    assert [status for status, _ in rows(home)] == ["failed", "cancelled", "promoted"]
    assert len(received) == 2, received
    assert up.stop(signal.SIGTERM) == 0
