"""Prefect's API for the length of one run: `python -m flows.prefect_host.embedded_server`.

Prefect's own embedded server shares the terminal's Ctrl-C, so that an interrupted run can
no longer say so, and outlives a killed parent. This one ends when its standard input does.
"""

import os
import signal
import socket
import sys
import threading

import uvicorn
from prefect.server.api.server import create_app


def main() -> None:
    """Bind a free port of 127.0.0.1, print the API's URL, and serve until input ends."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/api\n")
    sys.stdout.flush()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    config = uvicorn.Config(
        create_app(ephemeral=True, final=True),
        lifespan="on",
        log_level="error",
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
