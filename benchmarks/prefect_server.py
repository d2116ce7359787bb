"""A temporary Prefect server for a measurement."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 180


@contextmanager
def prefect_server(home: Path) -> Iterator[dict[str, str]]:
    """Run `digits up` on a free port of this machine.

    Args:
        home: An empty folder for the files of the server and its clients.

    Yields:
        The environment in which commands find the server, without the user's own settings of
        Prefect and of the project.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    others = {k: v for k, v in os.environ.items() if not k.startswith(("DIGITS_", "PREFECT_"))}
    environment = others | {
        "DIGITS_HOME": str(home / "digits"),
        "PREFECT_HOME": str(home / "prefect"),
    }
    log = home / "up.log"
    digits = str(Path(sys.executable).with_name("digits"))
    with log.open("wb") as output:
        up = subprocess.Popen(
            [digits, "up", "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "started!" not in log.read_text():
            if up.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"expected `digits up` to start, it said:\n{log.read_text()}")
            time.sleep(0.2)
        yield environment
    finally:
        up.send_signal(signal.SIGINT)
        up.wait()
