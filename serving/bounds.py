"""Limits on what a client may use: connections, time, bytes, places in a queue, and the token."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic_core import from_json
from uvicorn.protocols.http.h11_impl import H11Protocol

BEARER = HTTPBearer(auto_error=False)
JSON = "application/json"
MAX_CONNECTIONS = 256
MAX_BODY_BYTES = 10_000_000
MAX_JSON_BYTES = 2_000_000
# Bodies up to this size may arrive on every connection at once.
SMALL_BODY_BYTES = 64 * 1024
MAX_LARGE_BODIES = 16
# Time to send the head of a request, then its body, and to read the response.
CLIENT_TIMEOUT_S = 10


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which also closes connections to stalled clients."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the deadline for the first request."""
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        """Cancel the deadline once the head of a request is complete."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._set_deadline()
        else:
            self._cancel_deadline()

    def pause_writing(self) -> None:
        """Start the deadline for a client that stopped reading."""
        super().pause_writing()
        self._set_deadline()

    def resume_writing(self) -> None:
        """Cancel the deadline: the client reads again."""
        super().resume_writing()
        self._cancel_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        self._cancel_deadline()
        super().connection_lost(exc)

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(CLIENT_TIMEOUT_S, self.transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@asynccontextmanager
async def hold(slots: asyncio.Semaphore) -> AsyncIterator[None]:
    """Hold a slot; without a free one a request is refused rather than queued.

    Raises:
        HTTPException: 503 if none is free.
    """
    if slots.locked():
        raise HTTPException(503, "too many requests at once; try again", {"Retry-After": "1"})
    async with slots:
        yield


_large_bodies = asyncio.Semaphore(MAX_LARGE_BODIES)


class BoundedRequest(Request):
    """A request whose body has a limit on its size and the time it takes."""

    _body: bytes

    async def body(self) -> bytes:
        """Read the body within the limits of its content type.

        Raises:
            HTTPException: 408, 413, 415 or 503.
        """
        if not hasattr(self, "_body"):
            coding = self.headers.get("content-encoding", "identity")
            if coding.lower() != "identity":
                raise HTTPException(
                    415,
                    f"expected a body without Content-Encoding, received {coding[:40]};"
                    " send it uncompressed",
                    {"Accept-Encoding": "identity"},
                )
            kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "multipart/form-data":
                raise HTTPException(
                    415,
                    "expected the file itself as the body, received a form;"
                    " with curl: --data-binary @FILE",
                )
            is_json = kind == JSON or kind.endswith("+json")
            self._body = await _read_body(self, MAX_JSON_BYTES if is_json else MAX_BODY_BYTES)
        return self._body

    async def json(self) -> Any:
        """Parse the body with pydantic's parser, which bounds its depth.

        Raises:
            HTTPException: 422 if it is not JSON.
        """
        try:
            return from_json(await self.body())
        except ValueError as error:
            raise HTTPException(422, f"body: Invalid JSON: {error}") from error


class BoundedRoute(APIRoute):
    """A route that checks the token first and then reads the body within limits.

    FastAPI reads and parses the body before it calls any dependency, so that neither check can
    be one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            await _check_token(request)
            return await handle(BoundedRequest(request.scope, request.receive))

        return bounded


async def _check_token(request: Request) -> None:
    expected = request.app.state.service.token
    given = await BEARER(request) if expected else None
    sent = given.credentials if given else ""
    if expected and not hmac.compare_digest(sent.encode(), expected.encode()):
        raise HTTPException(
            401,
            "expected the header 'Authorization: Bearer' with the DIGITS_API_TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )


async def _read_body(request: Request, max_bytes: int) -> bytes:
    too_large = HTTPException(413, f"expected a body of at most {max_bytes:,} bytes")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    large = False
    try:
        async with asyncio.timeout(CLIENT_TIMEOUT_S), AsyncExitStack() as stack:
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise too_large
                if len(body) > SMALL_BODY_BYTES and not large:
                    await stack.enter_async_context(hold(_large_bodies))
                    large = True
    except TimeoutError as error:
        raise HTTPException(
            408, f"expected the whole body within {CLIENT_TIMEOUT_S} s", {"Connection": "close"}
        ) from error
    return bytes(body)
