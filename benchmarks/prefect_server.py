"""A Prefect server that is there for a measurement only, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.server import answers

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 10


@contextmanager
def prefect_server(home: Path) -> Iterator[dict[str, str]]:
    """Run a server on a free port of this machine.

    Args:
        home: An empty folder; the server, and all that is told of it, keep their files there.

    Yields:
        The environment in which commands find the server; the user's own settings of Prefect
        and of the project are not in it.
    """
    port = _free_port()
    others = {k: v for k, v in os.environ.items() if not k.startswith(("DIGITS_", "PREFECT_"))}
    environment = others | {
        "DIGITS_HOME": str(home / "digits"),
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start"]
    log = home / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(environment["PREFECT_API_URL"]):
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"expected the Prefect server to start, it said:\n{log.read_text()}")
            time.sleep(0.2)
        yield environment
    finally:
        _stop(server)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server with its children: they are a process group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(server.pid, number)
            server.wait(STOP_TIMEOUT_S)
