"""Which Prefect server a command talks to, and what it is told to be."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from filelock import FileLock
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    temporary_settings,
)

from storage.errors import ServerError

log = logging.getLogger("digits")

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 8
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def answers(api_url: str) -> bool:
    """Whether a Prefect server answers at this URL (``http://HOST:PORT/api``)."""
    try:
        return httpx.get(f"{api_url.rstrip('/')}/health", timeout=5).text == "true"
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def comes_up(api_url: str, server: subprocess.Popen[Any]) -> bool:
    """Wait until a server that was started answers; False if it ends, or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers(api_url):
        if server.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def check_login(api_url: str) -> None:
    """Ask a server that answers for something that needs the login, if it has one.

    Raises:
        ServerError: If it refuses us.
    """
    try:
        with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
            client.request("GET", "/admin/version")
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in {401, 403}:
            raise
        raise ServerError(
            f"expected PREFECT_API_AUTH_STRING to hold the login of the Prefect server at"
            f" {api_url}, which refuses what it was given; set it to the server's"
            " PREFECT_SERVER_API_AUTH_STRING"
        ) from error


def is_local(api_url: str) -> bool:
    """Whether a URL means this machine."""
    return urlsplit(api_url).hostname in LOOPBACK


def unreachable(api_url: str) -> ServerError:
    """The error for a server elsewhere that is configured and does not answer."""
    return ServerError(
        f"expected a Prefect server at PREFECT_API_URL={api_url}, received no answer;"
        " start it, or unset PREFECT_API_URL to use the embedded one"
    )


@contextmanager
def server_for_a_run() -> Iterator[bool]:
    """Talk to the server that is configured and answers, else to one that ends with the run.

    Yields:
        Whether it is the embedded one, which has to be waited for: see ``wait_for_tasks``.

    Raises:
        ServerError: If a server on another machine is configured and does not answer, or
            refuses us, or the embedded one does not start.
    """
    configured = PREFECT_API_URL.value()
    if configured and answers(configured):
        check_login(configured)
        log.info("Prefect server at %s", configured)
        yield False
        return
    if configured and not is_local(configured):
        raise unreachable(configured)
    log.info("starting Prefect's embedded server")
    with _embedded_server() as api_url, temporary_settings({PREFECT_API_URL: api_url}):
        try:
            yield True
        finally:
            # What the server has not been told by now, it never will be.
            APILogHandler().flush()


def wait_for_tasks(state: State[Any], timeout_s: float = 5.0) -> None:
    """Wait until the server has stored how each task of a run ended; it learns that by events."""
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
    home = PREFECT_HOME.value()
    home.mkdir(parents=True, exist_ok=True)
    # Two at once on a new PREFECT_HOME would race in the migrations of its database.
    with FileLock(home / "embedded-server.lock"):
        said = home / "embedded-server.log"
        with said.open("ab") as errors:
            server = subprocess.Popen(
                # -P: a package `flows` in the folder that the user stands in is not ours.
                [sys.executable, "-P", "-m", "flows.prefect_host.embedded_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        api_url = server.stdout.readline().strip() if server.stdout else ""
        if not comes_up(api_url, server):
            server.kill()
            raise ServerError(
                "expected Prefect's embedded server to start, it ended or gave no answer;"
                f" {said} says why"
            )
    try:
        yield api_url
    finally:
        if server.stdin:
            server.stdin.close()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
