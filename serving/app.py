"""The HTTP application: FastAPI, without TensorFlow or Prefect."""

import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from serving.api import predictions, public, router
from serving.bounds import JSON
from serving.metrics import MetricsMiddleware
from serving.proxies import KnownHosts, PathPrefix
from serving.schemas import Images
from serving.service import Service
from storage.errors import CorrectionNotFoundError, DigitsError, ImageError

STATUSES: dict[type[Exception], int] = {ImageError: 422, CorrectionNotFoundError: 404}


def create_app(
    service: Service,
    *,
    hosts: Collection[str] | None = (),
    origins: Collection[str] = (),
    root_path: str = "",
) -> FastAPI:
    """Create the application.

    Args:
        service: Makes the predictions; its champion is watched while the application runs.
        hosts: Host names that it answers to besides the loopback ones; None answers to any.
        origins: Origins whose pages may read its responses, besides its own.
        root_path: The path below which a reverse proxy serves it, such as "/digits".
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
    # Routes are tried in this order, and /predict is called most.
    for routes in (predictions, router, public):
        app.include_router(routes)
    app.add_exception_handler(DigitsError, _digits_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    # Each one wraps those before it.
    if root_path:
        app.add_middleware(PathPrefix, prefix=root_path)
    if hosts is not None:
        app.add_middleware(KnownHosts, hosts=hosts)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=("Retry-After",),
        )
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
    detail = f"{where or 'body'}: {first['msg']}{received}{_remedy(where, first['input'])}"
    return JSONResponse({"detail": detail}, 422)


def _remedy(where: str, received: object) -> str:
    if isinstance(received, str) and not where.startswith(("label", "actor")):
        return "; to send an image file, send its bytes as the body of /predict"
    if where == "label":
        return "; a label is a digit from 0 to 9, or null if it is not a digit"
    if where.startswith("image"):
        return "; an image is 28 rows of 28 whole numbers, 0 (paper) to 255 (ink)"
    return ""
