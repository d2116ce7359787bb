"""The HTTP application: FastAPI, without TensorFlow or Prefect."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse

from serving.api import public, router
from serving.bounds import JSON
from serving.metrics import MetricsMiddleware
from serving.schemas import Images
from serving.service import Service
from storage.errors import CorrectionNotFoundError, DigitsError, ImageError

# Starlette takes the host name of [::1] to be "[".
LOOPBACK = ["localhost", "127.0.0.1", "["]
STATUSES: dict[type[Exception], int] = {ImageError: 422, CorrectionNotFoundError: 404}


def create_app(service: Service, *, local: bool) -> FastAPI:
    """Create the application.

    Args:
        service: Makes the predictions; its champion is watched while the application runs.
        local: Whether it listens on a loopback address only. It then rejects all other host
            names, so that a website cannot reach it through DNS rebinding.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.watcher.start()
        yield
        service.watcher.stop()

    app = FastAPIOffline(
        title="digits",
        description="Predicts handwritten digits with the current champion.",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(public)
    app.include_router(router)
    app.add_exception_handler(DigitsError, _digits_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    if local:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK)
    app.add_middleware(MetricsMiddleware, metrics=service.metrics)
    return app


async def _digits_error(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, STATUSES.get(type(error), 503))


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    """Answer with the first problem in one line."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the handler's type is wider
    if isinstance(error.body, bytes):
        return JSONResponse({"detail": f"expected the Content-Type {JSON}"}, 415)
    first = error.errors()[0]
    # Not part of the path: "body", and the branch of the union that `/predict` takes.
    where = ".".join(str(part) for part in first["loc"][1:] if part != Images.__name__)
    received = f", received {json.dumps(first['input'])[:40]}" if where else ""
    return JSONResponse({"detail": f"{where or 'body'}: {first['msg']}{received}"}, 422)
