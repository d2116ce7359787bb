"""``digits serve``: predictions over HTTP, and a drawing page."""

from __future__ import annotations

import ipaddress
import logging
import re
import signal
import socket
from functools import cache, partial
from typing import TYPE_CHECKING

import click

from flows.lookup import only_dataset
from storage.errors import InvalidParameterError, ServeError
from storage.settings import read_settings

if TYPE_CHECKING:
    from storage.tables.corrections import Corrections

# Time that open requests have to finish after SIGTERM or Ctrl-C.
DRAIN_S = 8


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option("--dataset", help="The champion's dataset: name or folder.  [default: the only one]")
@click.option(
    "--root-path",
    default="",
    metavar="PATH",
    callback=lambda _context, _option, value: _prefix(value),
    help="Path below which a reverse proxy serves it, such as /digits.",
)
def serve(host: str, port: int, dataset: str | None, root_path: str) -> None:
    """Serve the champion over HTTP, with a drawing page, until Ctrl-C.

    A promotion or rollback takes effect within a second. An address other than a loopback
    address requires DIGITS_API_TOKEN, which clients then send. Behind a reverse proxy,
    DIGITS_ALLOWED_HOSTS names the host that clients call.
    """
    settings = read_settings()
    local = _is_local(host)
    if not local and settings.api_token is None:
        raise InvalidParameterError(
            f"--host: expected DIGITS_API_TOKEN to be set for {host}, found none;"
            " set it, or listen on 127.0.0.1"
        )
    name = only_dataset(settings, dataset)
    listener = _listen(host, port)

    import uvicorn

    from serving.app import create_app
    from serving.bounds import MAX_CONNECTIONS, BoundedProtocol
    from serving.champion import ChampionWatcher
    from serving.service import Service
    from storage.models.store import open_store

    watcher = ChampionWatcher(open_store(settings, name))
    corrections = cache(partial(_open_corrections, settings.database_url, name))
    app = create_app(
        Service(watcher, corrections, settings.api_token),
        hosts=settings.allowed_hosts if local or settings.allowed_hosts else None,
        origins=settings.allowed_origins,
        root_path=root_path,
    )
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=DRAIN_S,
        access_log=False,
        log_config=None,
        server_header=False,
    )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("digits").setLevel(logging.INFO)
    shown = f"[{host}]" if ":" in host else host
    click.echo(
        f"serving {watcher.champion.pointer.version} of {name} at"
        f" http://{shown}:{listener.getsockname()[1]} (API docs at /docs); Ctrl-C stops it"
    )
    # uvicorn raises the signal again once it has shut down; the exit code is 0 all the same.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])


def _prefix(path: str) -> str:
    prefix = path.strip("/")
    if not re.fullmatch(r"[\w.~/-]*", prefix, re.ASCII):
        raise click.BadParameter(f"expected a path such as /digits, received {path!r}")
    return f"/{prefix}" if prefix else ""


def _open_corrections(database_url: str, dataset: str) -> Corrections:
    """Open the table at the first correction: the server starts without a database."""
    from storage.tables.corrections import Corrections
    from storage.tables.database import open_database

    return Corrections(open_database(database_url, wait_s=5), dataset)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ServeError(
            f"cannot listen on {host}, port {port}: {why};"
            " choose another address with --host and --port"
        ) from error
    # Inherited by its connections: a response's body does not wait for its head's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    return listener


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
