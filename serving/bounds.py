"""Limits on what a client may use: connections, time, bytes and places in a queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import HTTPException, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

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


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read a request's body.

    Raises:
        HTTPException: 413 if it is larger than ``max_bytes``, 408 if it takes longer than
            CLIENT_TIMEOUT_S, 503 if too many large bodies are arriving.
    """
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
