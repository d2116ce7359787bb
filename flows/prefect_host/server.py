"""Which Prefect server a command uses, and how to wait for it."""

import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import prefect
from filelock import FileLock
from packaging.version import Version
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from storage.errors import ServerError

log = logging.getLogger("digits")

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 8


def is_healthy(api_url: str) -> bool:
    """Whether a Prefect server answers at this URL (``http://HOST:PORT/api``)."""
    try:
        return httpx.get(f"{api_url.rstrip('/')}/health", timeout=5).text == "true"
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def make_prefect_home() -> Path:
    """Make the folder of Prefect's own database, if need be.

    Raises:
        ServerError: If it cannot be made.
    """
    home: Path = PREFECT_HOME.value()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"expected PREFECT_HOME to be a folder for Prefect's database, received {home}"
            f" ({error.strerror})"
        ) from error
    return home


def wait_until_healthy(api_url: str, server: subprocess.Popen[Any], log_file: Path) -> None:
    """Wait for a server; ServerError if it exits or does not answer within START_TIMEOUT_S."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_healthy(api_url):
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            raise ServerError(
                f"expected the Prefect server to answer within {START_TIMEOUT_S} s, but it exited"
                f" or did not answer{_last_error(log_file)}; see {log_file}"
            )
        time.sleep(0.1)


def _last_error(log_file: Path) -> str:
    lines = log_file.read_text(errors="replace").splitlines()[-100:]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    if not errors:
        return ""
    newer = "Can't locate revision" in errors[-1]
    hint = f" (a newer Prefect has used the database in {PREFECT_HOME.value()})" if newer else ""
    return f": {errors[-1]}{hint}"


def check_server(api_url: str) -> None:
    """Ask the server its version, which needs the login, if it has one.

    Raises:
        ServerError: If the server refuses the login, or is of another version than this client.
    """
    try:
        with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
            found = client.request("GET", "/admin/version").json()
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in {401, 403}:
            raise
        raise ServerError(
            f"expected PREFECT_API_AUTH_STRING to hold the login of the Prefect server at"
            f" {api_url}, which refused the request; set it to the server's"
            " PREFECT_SERVER_API_AUTH_STRING"
        ) from error
    # A server of a later minor version understands this client; an earlier one need not.
    ours, theirs = Version(prefect.__version__).release, Version(found).release
    if theirs[0] != ours[0] or theirs[1] < ours[1]:
        raise ServerError(
            f"expected a Prefect server of version {ours[0]}.{ours[1]} or later {ours[0]}.x at"
            f" {api_url}, received {found}; upgrade it, or choose another with --port or"
            " PREFECT_API_URL"
        )


def answers(api_url: str) -> bool:
    """Whether the configured server answers; if not, one can be started in its place.

    Raises:
        ServerError: If it does not answer and is on another machine.
    """
    healthy = is_healthy(api_url)
    if not healthy and urlsplit(api_url).hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise ServerError(
            f"expected a Prefect server at PREFECT_API_URL={api_url}, received no answer;"
            " start it, or unset PREFECT_API_URL to use the embedded one"
        )
    return healthy


@contextmanager
def server_for_a_run() -> Iterator[bool]:
    """Use the configured server if it answers, else an embedded one that stops after the run.

    Yields:
        Whether the server is embedded; if so, call ``wait_for_tasks`` before leaving.

    Raises:
        ServerError: If a server on another machine is configured and does not answer, if the
            server refuses the login, or if the embedded server does not start.
    """
    configured = PREFECT_API_URL.value()
    if configured and answers(configured):
        check_server(configured)
        log.info("Prefect server at %s", configured)
        yield False
        return
    log.info("starting Prefect's embedded server")
    with _embedded_server() as api_url, temporary_settings({PREFECT_API_URL: api_url}):
        try:
            yield True
        finally:
            APILogHandler().flush()  # the server is about to stop


def wait_for_tasks(state: State[Any], timeout_s: float = 5.0) -> None:
    """Wait until the server has stored the final state of each task, which arrives as an event."""
    flow_run_id = state.state_details.flow_run_id
    if flow_run_id is None:
        return
    EventsWorker.drain_all()
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    deadline = time.monotonic() + timeout_s
    before = -1
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = client.read_task_runs(flow_run_filter=this_run)
            if len(runs) == before and all(run.state and run.state.is_final() for run in runs):
                return
            before = len(runs)
            time.sleep(0.3)


@contextmanager
def _embedded_server() -> Iterator[str]:
    home = make_prefect_home()
    output = home / "embedded-server.log"
    # Two servers starting at once on a new PREFECT_HOME would race in its database migrations.
    with FileLock(home / "embedded-server.lock"), output.open("ab") as errors:
        server = subprocess.Popen(
            # -P: never import a package named `flows` from the working directory.
            [sys.executable, "-P", "-m", "flows.prefect_host.embedded_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        api_url = server.stdout.readline().strip() if server.stdout else ""
        wait_until_healthy(api_url, server, output)
    try:
        yield api_url
    finally:
        try:
            server.communicate(timeout=STOP_TIMEOUT_S)  # closes its standard input: it stops
        except subprocess.TimeoutExpired:
            server.kill()
