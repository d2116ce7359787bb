"""Which Prefect server a command talks to, and what it is told to be."""

import logging
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
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)

from storage.errors import ServerError

log = logging.getLogger("digits")

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def answers(api_url: str) -> bool:
    """Whether a Prefect server answers at this URL (``http://HOST:PORT/api``)."""
    try:
        return httpx.get(f"{api_url}/health", timeout=5).text == "true"
    except httpx.HTTPError:
        return False


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
def server_for_a_run() -> Iterator[None]:
    """Talk to the server that is configured and answers, else to Prefect's embedded one.

    Raises:
        ServerError: If a server on another machine is configured and does not answer, or
            the embedded one does not start.
    """
    configured = PREFECT_API_URL.value()
    if configured and answers(configured):
        log.info("Prefect server at %s", configured)
        yield
        return
    if configured and not is_local(configured):
        raise unreachable(configured)
    with temporary_settings(
        {PREFECT_API_URL: None, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True},
        restore_defaults={PREFECT_API_URL},
    ):
        log.info("starting Prefect's embedded server")
        _start_embedded()
        yield


def wait_for_tasks(state: State[Any], timeout_s: float = 5.0) -> None:
    """Wait until the server has stored how each task ended; it learns that a little later.

    The embedded server stops with this process, and what it has not stored is lost.
    """
    flow_run_id = state.state_details.flow_run_id
    if flow_run_id is None:
        return
    deadline = time.monotonic() + timeout_s
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = client.read_task_runs(flow_run_filter=this_run)
            if runs and all(run.state and run.state.is_final() for run in runs):
                return
            time.sleep(0.1)


def _start_embedded() -> None:
    # Two at once on a new PREFECT_HOME would race in the migrations of its database.
    home = PREFECT_HOME.value()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "embedded-server.lock"):
        try:
            with get_client(sync_client=True) as client:
                client.hello()
        except (RuntimeError, httpx.HTTPError) as error:
            raise ServerError(
                f"expected Prefect's embedded server to start, received: {error};"
                f" look into {home}, or start one yourself with `digits up`"
            ) from error
