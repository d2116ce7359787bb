"""`digits up`: server, work pool, deployments and worker in one terminal, until Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    load_profiles,
    save_profiles,
)

from flows.output.display import short_path
from flows.prefect_host.night_shift import (
    HEARTBEAT_S,
    announce_rollbacks,
    close_the_dead,
    runs_page,
    watch_heartbeats,
)
from flows.prefect_host.processes import prefect_command, prefect_process
from flows.prefect_host.server import (
    START_TIMEOUT_S,
    answers,
    check_login,
    comes_up,
    is_local,
    unreachable,
)
from storage.errors import ServerError
from storage.settings import PROJECT, Settings
from storage.tables.database import open_database
from storage.tables.runs import Runs

POOL = "digits"
PROFILE = "digits"
# A worker that ends sooner is not one that something killed, but one that cannot run.
SHORT_LIFE_S = 10
# Ctrl-C, systemd, and a terminal that is closed.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_stopped(settings: Settings, port: int | None) -> None:
    """Start what does not run yet, and keep it running until one of STOP_SIGNALS.

    Args:
        settings: Handed to the runs through the environment.
        port: Of the UI and the API; None means the configured server's, or 4200.

    Raises:
        ServerError: If a part does not start, or ends by itself.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupt_once)
    api_url = _choose_url(port)
    environment = _environment(settings, api_url)
    # Whatever the runs of the night would trip over is said now.
    Runs(open_database(settings.database_url), settings.lease_s).check_writable()
    log = _log_file(settings)
    server = None
    with ExitStack() as stack:
        running = answers(api_url)
        if running:
            click.echo(f"A Prefect server answers at {api_url}: using it.")
        else:
            click.echo("Starting the Prefect server ...")
            server = stack.enter_context(prefect_process(["server", "start"], environment, log))
            if not comes_up(api_url, server):
                raise ServerError(
                    f"expected the Prefect server to answer at {api_url} within"
                    f" {START_TIMEOUT_S} s, received no answer; {log} says why"
                )
        check_login(api_url)
        stack.enter_context(_profile(api_url, running))
        click.echo("Deploying retrain/nightly ...")
        pool = ["work-pool", "create", POOL, "--type", "process", "--overwrite"]
        prefect_command(pool, environment)
        prefect_command(["--no-prompt", "deploy", "--all"], environment)
        watch_heartbeats(api_url)
        close_the_dead(settings, api_url)
        try:
            _work(settings, api_url, environment, server)
        except KeyboardInterrupt:
            click.echo("Stopping ...")


def _work(
    settings: Settings,
    api_url: str,
    environment: dict[str, str],
    server: subprocess.Popen[bytes] | None,
) -> None:
    """Keep a worker running; one that dies is started again, unless it cannot live."""
    start_worker = ["worker", "start", "--pool", POOL, "--install-policy", "never"]
    welcomed = False
    while True:
        started = time.monotonic()
        with prefect_process(start_worker, environment, None) as worker:
            if not welcomed:
                click.echo(_welcome(api_url))
                welcomed = True
            _wait_for_the_first_end(settings, api_url, worker, server)
        if time.monotonic() - started < SHORT_LIFE_S:
            raise ServerError(
                f"expected the worker to run until Ctrl-C, it ended with code"
                f" {worker.returncode} after a few seconds; start `digits up` again"
            )
        click.echo(f"The worker ended with code {worker.returncode}: starting another one.")


def _wait_for_the_first_end(
    settings: Settings,
    api_url: str,
    worker: subprocess.Popen[bytes],
    server: subprocess.Popen[bytes] | None,
) -> None:
    looked, seen = time.monotonic(), dict[str, int]()
    announce_rollbacks(settings, api_url, seen)
    while worker.poll() is None:
        if server is not None and server.poll() is not None:
            raise ServerError(
                f"expected the server to run until Ctrl-C, it ended with code"
                f" {server.returncode}; start `digits up` again"
            )
        time.sleep(0.5)
        if time.monotonic() - looked > min(settings.lease_s / 2, 60):
            close_the_dead(settings, api_url)
            announce_rollbacks(settings, api_url, seen)
            looked = time.monotonic()


def _choose_url(port: int | None) -> str:
    configured = PREFECT_API_URL.value()
    if port is not None or configured is None:
        url = f"http://127.0.0.1:{port or 4200}/api"
    else:
        url = configured.rstrip("/")
    if answers(url):
        return url
    if not is_local(url):
        raise unreachable(url)
    port = _port(url)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerError(
                f"expected port {port} to be free or a Prefect server to answer there,"
                f" received: {error}; choose another with --port"
            ) from error
    return url


def _port(url: str) -> int:
    try:
        return urlsplit(url).port or 4200
    except ValueError as error:
        raise ServerError(
            f"expected a URL such as http://127.0.0.1:4200/api in PREFECT_API_URL, received {url}"
        ) from error


def _log_file(settings: Settings) -> Path:
    folder = settings.home / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"expected to write the server's log into {folder}, received: {error};"
            " check DIGITS_HOME"
        ) from error
    return folder / "server.log"


def _environment(settings: Settings, api_url: str) -> dict[str, str]:
    """What the server, the worker and its runs are told, over what the user has set."""
    parts = urlsplit(api_url)
    ours = {
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(_port(api_url)),
        # Without these, any web page that is open on this machine could start runs.
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"{parts.scheme}://{parts.netloc}",
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        # In memory, a power cut would hold the deployment's only slot for good.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        # By its heartbeat the server knows that a run lives.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        # Absolute, for the runs begin in the project's folder.
        "DIGITS_HOME": str(settings.home),
        "DIGITS_DATABASE_URL": settings.database_url,
        "DIGITS_MODELS_URL": str(settings.models),
        "PWD": str(PROJECT),
    }
    return {"PREFECT_WORKER_QUERY_SECONDS": "2", **os.environ, **ours}


@contextmanager
def _profile(api_url: str, running: bool) -> Iterator[None]:
    """Let `prefect` and `digits` in other terminals find the server, as long as it runs.

    Nothing is changed where the user's own profile names this server, or where another
    `digits up`, whose server is running already, sees to it.
    """
    before = load_profiles().active_name
    if PREFECT_API_URL.value() == api_url and (running or before != PROFILE):
        yield
        return
    # In a file, so that a `digits up` that was killed does not take the user's choice with it.
    memory = PREFECT_HOME.value() / "profile-before-digits-up"
    if before != PROFILE:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(before or "")
    profiles = load_profiles(include_defaults=False)
    profiles.update_profile(PROFILE, {PREFECT_API_URL: api_url})
    profiles.set_active(PROFILE)
    save_profiles(profiles)
    try:
        yield
    finally:
        profiles = load_profiles(include_defaults=False)
        profiles.remove_profile(PROFILE)
        remembered = memory.read_text() if memory.exists() else ""
        profiles.set_active(remembered or None, check=False)
        save_profiles(profiles)
        memory.unlink(missing_ok=True)


def _interrupt_once(_signal: int, _frame: object) -> None:
    """Begin to stop; what comes after does not interrupt the stopping."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _welcome(api_url: str) -> str:
    ui = api_url.removesuffix("/api")
    nights = runs_page(api_url)
    prefect = Path(sys.executable).with_name("prefect")
    command = short_path(prefect)
    return f"""
  UI        {ui}
  nights    {nights}
  nightly   at the time that prefect.yaml says
  a run     {command} deployment run retrain/nightly --watch
  on less   {command} deployment run retrain/nightly -p dataset=mnist-5k -p epochs=3 --watch
  stop      Ctrl-C
"""
