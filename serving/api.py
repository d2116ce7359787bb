"""The paths of the HTTP API."""

import hmac
import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.responses import HTMLResponse

from serving import wire
from serving.bounds import MAX_BODY_BYTES, MAX_JSON_BYTES, read_body
from serving.service import Service

Body = TypeVar("Body", bound=BaseModel)
BEARER = HTTPBearer(auto_error=False)
JSON = "application/json"

PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline';"
    " style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": wire.Said, "description": "The token is missing or wrong."},
    408: {"model": wire.Said, "description": "The body came too slowly."},
    413: {"model": wire.Said, "description": "The body is too large."},
    415: {"model": wire.Said, "description": "The body is of another kind."},
    422: {"model": wire.Said, "description": "The body is not what it has to be."},
    503: {"model": wire.Said, "description": "Too many at once, or no database; try again."},
}


async def authorised(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
) -> None:
    """Let in who names the token, where there is one.

    Raises:
        HTTPException: 401 for anybody else.
    """
    token = _service(request).token
    if token and not (given and hmac.compare_digest(given.credentials.encode(), token.encode())):
        raise HTTPException(
            401,
            "expected the header 'Authorization: Bearer' with the DIGITS_API_TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )


anybody = APIRouter()
router = APIRouter(dependencies=[Depends(authorised)], responses=ERRORS)


def _takes(model: type[BaseModel], *files: str) -> dict[str, Any]:
    """What OpenAPI says of a body that the path reads itself."""
    file = {"schema": {"type": "string", "format": "binary"}}
    kinds = {JSON: {"schema": model.model_json_schema()}, **dict.fromkeys(files, file)}
    return {"requestBody": {"required": True, "content": kinds}}


@router.post(
    "/predict",
    response_model=wire.Predictions,
    openapi_extra=_takes(wire.Images, "image/png", "image/jpeg", "image/webp", "image/bmp"),
)
async def predict(request: Request) -> Response:
    """Say which digit is on an image.

    Send an image file (PNG, JPEG, WebP or BMP, of any size and colour) as the body, or JSON
    with one or many images of 28 x 28.
    """
    service, kind = _service(request), _kind(request)
    if kind == "multipart/form-data":
        raise HTTPException(
            415,
            "expected the file itself as the body, received a form; with curl: --data-binary @FILE",
        )
    if kind == JSON:
        given = _parsed(wire.Images, await read_body(request, MAX_JSON_BYTES))
        return _json(service.predict(*map(_pixels, given.images)))
    image = await service.decode(await read_body(request, MAX_BODY_BYTES))
    answer = service.predict(image)
    answer.predictions[0].image = image.tolist()
    return _json(answer)


@router.post(
    "/corrections",
    status_code=201,
    response_model=wire.Kept,
    openapi_extra=_takes(wire.Correction),
)
async def correct(request: Request) -> Response:
    """Keep what a person says that an image shows; the next night learns from it."""
    if _kind(request) != JSON:  # other kinds a page from elsewhere may send unasked
        raise HTTPException(415, f"expected the Content-Type {JSON}")
    given = _parsed(wire.Correction, await read_body(request, MAX_JSON_BYTES))
    actor = given.actor or (request.client.host if request.client else "unknown")
    return _json(await _service(request).correct(_pixels(given.image), given.label, actor), 201)


@router.delete("/corrections/{digest}", status_code=204, responses={404: {"model": wire.Said}})
async def revoke(request: Request, digest: str) -> Response:
    """Take a correction back."""
    await _service(request).revoke(digest)
    return Response(status_code=204)


@router.get("/champion")
async def champion(request: Request) -> wire.InUse:
    """Say which model answers."""
    follower = _service(request).follower
    now = follower.champion
    manifest = now.classifier.version.manifest
    return wire.InUse(
        dataset=now.dataset,
        version=now.pointer.version,
        generation=now.pointer.generation,
        test_correct=manifest.get("test_correct"),
        test_total=manifest.get("test_total"),
        refused=follower.refused,
    )


@router.get("/metrics", response_model=None, responses={200: {"content": {"text/plain": {}}}})
async def prometheus(request: Request) -> Response:
    """Say what was counted, in Prometheus' format."""
    counted = generate_latest(_service(request).metrics.registry)
    return Response(counted, media_type=CONTENT_TYPE_LATEST)


@anybody.get("/healthz")
async def healthz(request: Request) -> wire.Health:
    """Say that it answers, and which version does."""
    version = _service(request).follower.champion.pointer.version
    return wire.Health(status="ok", version=version)


@anybody.get("/", include_in_schema=False)
async def page() -> Response:
    """Show the page to draw on."""
    return HTMLResponse(PAGE, headers=PAGE_HEADERS)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _kind(request: Request) -> str:
    """The body's type, in small letters and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _parsed(model: type[Body], body: bytes) -> Body:
    """The body as what it has to be; else 422 with the first thing that is wrong."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        received = f", received {json.dumps(first['input'])[:40]}" if first["loc"] else ""
        raise HTTPException(422, f"{where}: {first['msg']}{received}") from error


def _pixels(image: list[list[int]]) -> NDArray[np.uint8]:
    return np.array(image, dtype=np.uint8)


def _json(value: BaseModel, status: int = 200) -> Response:
    return Response(value.model_dump_json(exclude_none=True), status, media_type=JSON)
