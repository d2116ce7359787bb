"""The paths of the HTTP API."""

from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, Depends, Request, Response
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Strict
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import to_json
from starlette.responses import HTMLResponse

from serving import schemas
from serving.bounds import BEARER, JSON, BoundedRoute
from serving.ink import MIN_CONTRAST
from serving.service import Service
from storage.errors import ImageError

PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline';"
    " style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.ErrorDetail, "description": description}
    for status, description in {
        401: "The token is missing or wrong.",
        408: "The body arrived too slowly.",
        413: "The body is too large.",
        415: "The body has an unsupported content type.",
        422: "The body is invalid.",
        503: "Too many requests at once, or the database is unavailable; try again.",
    }.items()
}
FILE = {"schema": {"type": "string", "format": "binary"}}
IMAGE_FILES = dict.fromkeys(("image/png", "image/jpeg", "image/webp", "image/bmp"), FILE)


# FastAPI passes on JSON parsed, and any other body as bytes.
ImagesOrFile = Annotated[
    schemas.Images | SkipJsonSchema[Annotated[bytes, Strict()]], Body(default_factory=bytes)
]

public = APIRouter()
# BoundedRoute checks the token; the dependency puts it into the OpenAPI schema. Solving it takes a
# twentieth of a prediction, so /predict refers to it in the schema alone.
router = APIRouter(route_class=BoundedRoute, dependencies=[Depends(BEARER)], responses=ERRORS)
predictions = APIRouter(route_class=BoundedRoute, responses=ERRORS)


@predictions.post(
    "/predict",
    response_model=schemas.Predictions,
    openapi_extra={
        "requestBody": {"required": True, "content": IMAGE_FILES},
        "security": [{BEARER.scheme_name: []}],
    },
)
async def predict(request: Request, body: ImagesOrFile) -> Response:
    """Predict the digits in an image file, or one for each image of 28 x 28.

    Send an image file (PNG, JPEG, WebP or BMP, of any size and colour) as the body, or JSON
    with one or more images of 28 x 28. The digits of a file are answered from left to right.
    """
    service = _service(request)
    if isinstance(body, schemas.Images):
        answer = service.predict(*map(_pixels, body.images))
    else:
        answer = await service.read(body)
    # FastAPI would check the answer before it serialises it.
    return Response(to_json(answer), media_type=JSON)


@router.post("/corrections", status_code=201)
async def correct(request: Request, body: schemas.Correction) -> schemas.StoredCorrection:
    """Store the right digit for an image, or null if it shows none, for later training."""
    actor = body.actor or (request.client.host if request.client else "unknown")
    return await _service(request).correct(_pixels(body.image), body.label, actor)


@router.get("/corrections/{digest}", responses={404: {"model": schemas.ErrorDetail}})
async def correction(request: Request, digest: str) -> schemas.StoredCorrection:
    """Describe a correction: whether it is kept, held or revoked, and which version learnt it."""
    return await _service(request).correction(digest)


@router.delete(
    "/corrections/{digest}", status_code=204, responses={404: {"model": schemas.ErrorDetail}}
)
async def revoke(request: Request, digest: str) -> None:
    """Revoke a correction."""
    await _service(request).revoke(digest)


@router.get("/champion")
async def champion(request: Request) -> schemas.ChampionInfo:
    """Describe the model that is serving."""
    watcher = _service(request).watcher
    current = watcher.champion
    manifest = current.classifier.version.manifest
    return schemas.ChampionInfo(
        dataset=current.dataset,
        version=current.pointer.version,
        generation=current.pointer.generation,
        test_correct=manifest.get("test_correct"),
        test_total=manifest.get("test_total"),
        refused=watcher.refused,
    )


@router.get("/metrics", response_model=None, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    content = generate_latest(_service(request).metrics.registry)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


@public.head("/healthz", include_in_schema=False)
@public.get("/healthz")
async def healthz(request: Request) -> dict[str, str]:
    """Report that the server is up, and which version is serving."""
    return {"status": "ok", "version": _service(request).watcher.champion.pointer.version}


@public.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def page() -> Response:
    """Return the drawing page."""
    return HTMLResponse(PAGE, headers=PAGE_HEADERS)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _pixels(image: list[list[int]]) -> NDArray[np.uint8]:
    # Four times as fast as np.array of nested lists.
    pixels = np.frombuffer(bytes(chain.from_iterable(image)), np.uint8).reshape(28, 28)
    paper, ink = int(pixels.min()), int(pixels.max())
    if (paper, ink) == (0, 1):
        raise ImageError(
            "expected grey levels from 0 (paper) to 255 (ink), received only 0 and 1;"
            " multiply them by 255"
        )
    if ink - paper < MIN_CONTRAST:
        raise ImageError("expected a digit in the image, found no ink")
    return pixels
