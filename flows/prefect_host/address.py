"""Where the server of `digits up` is, and how its processes and other terminals find it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL, PREFECT_HOME, load_profiles, save_profiles

from flows.prefect_host.server import answers
from storage.errors import ServerError
from storage.settings import PROJECT, Settings

PROFILE = "digits"


def choose_url(port: int | None) -> str:
    """URL of a server that answers, or of a free port for a new one.

    Args:
        port: On 127.0.0.1; None means PREFECT_API_URL, or 4200.

    Raises:
        ServerError: If the port is in use by something else, or the server is on another
            machine and does not answer.
    """
    configured = PREFECT_API_URL.value()
    if port is not None or configured is None:
        url = f"http://127.0.0.1:{port or 4200}/api"
    else:
        url = configured.rstrip("/")
    if not answers(url):
        _check_free(_port(url))
    return url


def environment_of(settings: Settings, api_url: str) -> dict[str, str]:
    """Environment of the server, the worker and its runs: the user's, with these on top."""
    parts = urlsplit(api_url)
    overrides = {
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(_port(api_url)),
        # Without these two, any web page open on this machine could start runs.
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"{parts.scheme}://{parts.netloc}",
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        # In memory, a power cut would leave the deployment's only slot taken for good.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        # Absolute, because runs start in the project's folder.
        "DIGITS_HOME": str(settings.home),
        "DIGITS_DATABASE_URL": settings.database_url,
        "DIGITS_MODELS_URL": str(settings.models),
        "PWD": str(PROJECT),
    }
    return {"PREFECT_WORKER_QUERY_SECONDS": "2", **os.environ, **overrides}


@contextmanager
def active_profile(api_url: str, running: bool) -> Iterator[None]:
    """Make the server the default of `prefect` and `digits` in other terminals.

    Does nothing if the user's own profile names this server, or if it was already running and
    another `digits up` manages the profile.
    """
    before = load_profiles().active_name
    if PREFECT_API_URL.value() == api_url and (running or before != PROFILE):
        yield
        return
    # Kept in a file, so the next `digits up` can restore it if this one is killed.
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


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerError(
                f"expected port {port} to be free or a Prefect server to answer there,"
                f" received: {error}; choose another with --port"
            ) from error


def _port(url: str) -> int:
    try:
        return urlsplit(url).port or 4200
    except ValueError as error:
        raise ServerError(
            f"expected a URL such as http://127.0.0.1:4200/api in PREFECT_API_URL, received {url}"
        ) from error
