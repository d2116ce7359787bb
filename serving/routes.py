"""Token and body limits, checked before FastAPI reads a request."""

import hmac
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic_core import from_json

from serving.bounds import MAX_BODY_BYTES, MAX_JSON_BYTES, read_body

BEARER = HTTPBearer(auto_error=False)
JSON = "application/json"


class BoundedRequest(Request):
    """A request whose body has a limit on its size and the time it takes."""

    _body: bytes

    async def body(self) -> bytes:
        """Read the body within the limits of its content type.

        Raises:
            HTTPException: 408, 413, 415 or 503.
        """
        if not hasattr(self, "_body"):
            kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "multipart/form-data":
                raise HTTPException(
                    415,
                    "expected the file itself as the body, received a form;"
                    " with curl: --data-binary @FILE",
                )
            is_json = kind == JSON or kind.endswith("+json")
            self._body = await read_body(self, MAX_JSON_BYTES if is_json else MAX_BODY_BYTES)
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
