"""What a reverse proxy changes: the host that a client names, and the path prefix."""

import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from storage.settings import HOST

HOST_HEADER = re.compile(rf"({HOST})(:\d*)?")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class KnownHosts:
    """ASGI middleware that refuses requests for any other host.

    Without it, a website could reach a server on 127.0.0.1 through DNS rebinding: its own name
    would resolve to this machine.

    Args:
        hosts: Names and addresses, in lower case, besides the loopback ones.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = {*LOOPBACK, *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            received = Headers(scope=scope).get("host", "")
            match = HOST_HEADER.fullmatch(received.lower())
            if match is None or match[1] not in self._hosts:
                detail = (
                    f"expected a Host of {', '.join(sorted(self._hosts))},"
                    f" received {received[:60]!r}; DIGITS_ALLOWED_HOSTS adds others"
                )
                await JSONResponse({"detail": detail}, 400)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class PathPrefix:
    """ASGI middleware that serves below a path prefix, whether or not a proxy strips it.

    Args:
        prefix: Begins with a slash and does not end with one.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            path = scope["path"]
            if path != self._prefix and not path.startswith(f"{self._prefix}/"):
                path = self._prefix + path
            scope.update(path=path, root_path=self._prefix)
        await self._app(scope, receive, send)
