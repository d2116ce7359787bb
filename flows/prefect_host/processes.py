"""Prefect commands as child processes that never outlive `digits up`."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import psutil

from flows.prefect_host.server import STOP_TIMEOUT_S
from storage.errors import ServerError
from storage.settings import PROJECT

LOG_BYTES = 10_000_000
# Some of Prefect's commands ask a server on the internet; it may stall.
COMMAND_TIMEOUT_S = 300


def run_prefect(arguments: list[str], environment: dict[str, str]) -> None:
    """Run a Prefect command and wait for it.

    Raises:
        ServerError: If it fails; the message contains its output.
    """
    try:
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
            timeout=COMMAND_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerError(
            f"expected `prefect {' '.join(arguments)}` to end within {COMMAND_TIMEOUT_S} s, but"
            " it waits for something, perhaps a proxy; look at the server's log"
        ) from error
    if done.returncode != 0:
        raise ServerError(
            f"expected `prefect {' '.join(arguments)}` to succeed, received:\n{done.stdout}"
        )


@contextmanager
def prefect_process(
    arguments: list[str], environment: dict[str, str], log: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Prefect command in the background; stop it and its children on exit.

    Its output is appended to ``log``, or goes to the terminal.
    """
    with log.open("ab") if log else nullcontext() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
            preexec_fn=_exit_with_parent,  # noqa: PLW1509 - no other thread is running yet
        )
        try:
            yield process
        finally:
            _stop(process)


def rotate(log: Path) -> None:
    """Move what a log holds to ``NAME.log.1`` once it exceeds LOG_BYTES.

    Its writer appends, so it goes on at the start of the emptied file.
    """
    if log.exists() and log.stat().st_size > LOG_BYTES:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def _exit_with_parent() -> None:
    """On Linux, have the kernel terminate this process if `digits up` is killed."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the runs first, while they can still report their state, then the process itself."""
    try:
        parent = psutil.Process(process.pid)
        _terminate(parent.children(recursive=True))
        _terminate([parent, *parent.children(recursive=True)])
    except psutil.NoSuchProcess:
        pass
    # Survivors in its session, even if the process itself had already exited.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _terminate(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S)
