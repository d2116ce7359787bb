"""The server's application: FastAPI, without TensorFlow or Prefect."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse

from serving.api import anybody, router
from serving.metrics import Counted
from serving.service import Service
from storage.errors import CorrectionNotFoundError, DigitsError, ImageError

# The last is what Starlette makes of [::1].
LOOPBACK = ["localhost", "127.0.0.1", "["]
STATUSES: dict[type[DigitsError], int] = {ImageError: 422, CorrectionNotFoundError: 404}


def create_app(service: Service, *, local: bool) -> Counted:
    """Make the application.

    Args:
        service: What it answers with; its champion is followed while the server runs.
        local: Whether it listens on this machine alone. By other names it is not to be reached
            then, or a page from elsewhere could do so by a name of its own.
    """

    @asynccontextmanager
    async def following(_app: FastAPI) -> AsyncIterator[None]:
        service.follower.start()
        yield
        service.follower.stop()

    app = FastAPIOffline(
        title="digits",
        description="The digit on an image, by the model that is in use.",
        version="1",
        lifespan=following,
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(anybody)
    app.include_router(router)
    app.add_exception_handler(DigitsError, _explained)
    app.add_exception_handler(Exception, _defect)
    if local:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK)
    return Counted(app, service.metrics)


async def _explained(_request: Request, error: Exception) -> JSONResponse:
    kind = type(error)
    status = STATUSES.get(kind, 503) if issubclass(kind, DigitsError) else 503
    return JSONResponse({"detail": str(error)}, status)


async def _defect(_request: Request, _error: Exception) -> JSONResponse:
    # It is raised again after this answer, and logged by Counted.
    return JSONResponse({"detail": "this was not foreseen; see the server's log"}, 503)
