"""What the server lets a client take: bytes, time and a place in the queue."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 256
MAX_BODY_BYTES = 10_000_000
MAX_JSON_BYTES = 2_000_000
# A body of at most so many bytes may come in on every connection at once.
SMALL_BODY_BYTES = 64 * 1024
MAX_LARGE_BODIES = 16
# To send a request's head, then its body; and to take what is sent.
PATIENCE_S = 10
# Images that are decoded, and corrections that are written, or wait for it.
MAX_WAITING = 32
BUSY = HTTPException(503, "too many requests at once; try again", {"Retry-After": "1"})


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, closed on clients that do not go on."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        """Wait no longer once the head of a request is there."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._set_deadline()
        else:
            self._unset_deadline()

    def pause_writing(self) -> None:
        """Wait for a client that takes nothing."""
        super().pause_writing()
        self._set_deadline()

    def resume_writing(self) -> None:
        """Wait no longer: it takes something."""
        super().resume_writing()
        self._unset_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._unset_deadline()
        super().connection_lost(exc)

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(PATIENCE_S, self.transport.abort)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Places:
    """So many at once; who comes after is told to try again, and never waits.

    Args:
        places: So many.
    """

    def __init__(self, places: int) -> None:
        self._free = places

    def take(self) -> None:
        """Take a place.

        Raises:
            HTTPException: 503 if there is none.
        """
        if not self._free:
            raise BUSY
        self._free -= 1

    def give_back(self) -> None:
        """Give it back."""
        self._free += 1

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place meanwhile."""
        self.take()
        try:
            yield
        finally:
            self.give_back()


_large_bodies = Places(MAX_LARGE_BODIES)


async def read_body(request: Request, most: int) -> bytes:
    """Read a request's body, of ``most`` bytes at most.

    Raises:
        HTTPException: 413 if it is larger, 408 if it takes longer than
            PATIENCE_S, 503 if too many others are sending large ones.
    """
    too_large = HTTPException(413, f"expected a body of at most {most:,} bytes")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > most:
        raise too_large
    body = bytearray()
    large = False
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
                if len(body) > SMALL_BODY_BYTES and not large:
                    _large_bodies.take()
                    large = True
    except TimeoutError as error:
        raise HTTPException(
            408, f"expected the whole body within {PATIENCE_S} s", {"Connection": "close"}
        ) from error
    finally:
        if large:
            _large_bodies.give_back()
    return bytes(body)
