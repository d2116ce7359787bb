"""`digits up`: server, work pool, deployment and worker in one terminal, until Ctrl-C."""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import click
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.output.display import short_path
from flows.prefect_host.address import active_profile, choose_url, environment_of
from flows.prefect_host.automations import drop_heartbeat_automation
from flows.prefect_host.deployment import deploy
from flows.prefect_host.housekeeping import (
    announce_rollbacks,
    close_dead_flow_runs,
    record_crashed_nights,
    record_skipped_nights,
    runs_page,
)
from flows.prefect_host.processes import prefect_process, rotate
from flows.prefect_host.server import (
    check_server,
    is_healthy,
    make_prefect_home,
    wait_until_healthy,
)
from storage.errors import ServerError
from storage.settings import Settings
from storage.tables.database import open_database
from storage.tables.runs import Runs

# A worker that exits sooner was not killed: it cannot run at all.
SHORT_LIFE_S = 10
# Ctrl-C, systemd, and a closed terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Process = subprocess.Popen[bytes]


def run_until_stopped(settings: Settings, port: int | None) -> None:
    """Start everything that is not running yet, and keep it running until one of STOP_SIGNALS.

    Args:
        settings: Passed to the runs through the environment.
        port: Of the UI and the API; None means the configured server's, or 4200.

    Raises:
        ServerError: If a part does not start, or exits by itself.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupt_once)
    api_url = choose_url(port)
    environment = environment_of(settings, api_url)
    # Fail now rather than at night.
    Runs(open_database(settings.database_url), settings.lease_s).check_writable()
    log = _log_file(settings)
    with ExitStack() as stack:
        running = is_healthy(api_url)
        if running:
            click.echo(f"Using the Prefect server at {api_url}.")
            server = None
        else:
            make_prefect_home()
            click.echo("Starting the Prefect server ...")
            server = stack.enter_context(prefect_process(["server", "start"], environment, log))
            wait_until_healthy(api_url, server, log)
        check_server(api_url)
        stack.enter_context(active_profile(api_url, running))
        stack.enter_context(temporary_settings({PREFECT_API_URL: api_url}))
        click.echo("Deploying ...")
        name, pool = deploy(settings, environment)
        drop_heartbeat_automation()
        click.echo(_welcome(api_url.removesuffix("/api"), name))
        try:
            _keep_a_worker(pool, environment, server, _housekeeping(settings, name, log))
        except KeyboardInterrupt:
            click.echo("Stopping ...")


def _housekeeping(settings: Settings, name: str, log: Path) -> Callable[[], None]:
    """A function that does the housekeeping; it is called again and again."""
    since, seen = datetime.now(UTC), dict[str, int]()
    last = -math.inf

    def tidy() -> None:
        nonlocal last
        if time.monotonic() - last > min(settings.lease_s / 2, 60):
            close_dead_flow_runs(settings)
            record_crashed_nights(settings, name, since)
            record_skipped_nights(settings, name, since)
            announce_rollbacks(settings, seen)
            with suppress(OSError):
                rotate(log)
            last = time.monotonic()

    return tidy


def _keep_a_worker(
    pool: str, environment: dict[str, str], server: Process | None, tidy: Callable[[], None]
) -> None:
    """Run a worker; restart it when it exits, unless it exits at once."""
    arguments = ["worker", "start", "--pool", pool, "--install-policy", "never"]
    while True:
        started = time.monotonic()
        with prefect_process(arguments, environment, None) as worker:
            _watch(worker, server, tidy)
        if time.monotonic() - started < SHORT_LIFE_S:
            raise ServerError(
                f"expected the worker to run until Ctrl-C, but it exited with code"
                f" {worker.returncode} within {SHORT_LIFE_S} s; start `digits up` again"
            )
        click.echo(f"The worker exited with code {worker.returncode}: starting another one.")


def _watch(worker: Process, server: Process | None, tidy: Callable[[], None]) -> None:
    """Do the housekeeping until the worker exits."""
    while worker.poll() is None:
        if server is not None and server.poll() is not None:
            raise ServerError(
                f"expected the Prefect server to run until Ctrl-C, but it exited with code"
                f" {server.returncode}; start `digits up` again"
            )
        tidy()
        time.sleep(0.5)


def _log_file(settings: Settings) -> Path:
    folder = settings.home / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rotate(folder / "server.log")
    except OSError as error:
        raise ServerError(
            f"expected to write the server's log to {folder}, received: {error}; check DIGITS_HOME"
        ) from error
    return folder / "server.log"


def _interrupt_once(_signal: int, _frame: object) -> None:
    """Stop; further signals do not interrupt the clean-up."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _welcome(ui: str, name: str) -> str:
    command = short_path(Path(sys.executable).with_name("prefect"))
    return f"""
  UI        {ui}
  nights    {runs_page(ui, name)}
  schedule  see prefect.yaml
  run now   {command} deployment run {name} --watch
  try out   {command} deployment run {name} -p dataset=mnist-5k -p epochs=3 --watch
  stop      Ctrl-C
"""
