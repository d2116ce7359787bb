"""Prefect's own commands as processes: started, and ended with all that they started."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from flows.prefect_host.server import STOP_TIMEOUT_S
from storage.errors import ServerError
from storage.settings import PROJECT


def prefect_command(arguments: list[str], environment: dict[str, str]) -> None:
    """Run a Prefect command to its end.

    Raises:
        ServerError: If it fails; the message holds what it printed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        check=False,
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise ServerError(
            f"expected `prefect {' '.join(arguments)}` to succeed, received:\n{done.stdout}"
        )


@contextmanager
def prefect_process(
    arguments: list[str], environment: dict[str, str], log: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Prefect command in a session of its own, and end it with all its children."""
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else None
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - no other thread runs yet
        )
        try:
            yield process
        finally:
            _stop(process)


def _end_with_parent() -> None:
    """On Linux, have this process ended when `digits up` is killed outright."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the runs first, so that they can tell the server, then the process itself."""
    try:
        parent = psutil.Process(process.pid)
        _terminate(parent.children(recursive=True))
        _terminate([parent, *parent.children(recursive=True)])
    except psutil.NoSuchProcess:
        pass
    # Whoever is left of its session, also where it had ended by itself.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _terminate(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S)
