"""Calls from outside: `POST /api/hooks/NAME` lets a signed delivery in, for triggers to act on."""

from __future__ import annotations

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tidewheel.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    NotReady,
    StorageUnavailable,
    TidewheelError,
    TooLarge,
    Unauthorized,
)
from tidewheel.lineage.store import Store
from tidewheel.triggers.state import declared_hooks
from tidewheel.triggers.webhooks import LIMIT, receive

# The first that fits: some are also others.
CODES: tuple[tuple[type[TidewheelError], int], ...] = (
    (Unauthorized, 401),
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (InvalidInput, 400),
    (NotReady, 503),
    (StorageUnavailable, 503),
)


def hook_route(store: Store) -> Route:
    """Return the route of the webhooks of a store: 202 for a new delivery, 401, 404, 409, 413 for what is refused."""

    async def hook(request: Request) -> Response:
        try:
            body = await _body(request)
            delivery = await run_in_threadpool(_receive, store, request, body)
        except TidewheelError as error:
            return _refused(error)
        except ClientDisconnect:
            return Response(status_code=400)
        return _json({"delivery": delivery, "accepted": True}, 202)

    return Route("/api/hooks/{name}", hook, methods=["POST"])


def _receive(store: Store, request: Request, body: bytes) -> str:
    name = str(request.path_params["name"])
    return receive(store, name, declared_hooks(store), dict(request.headers), body).id


async def _body(request: Request) -> bytes:
    """Read the body; what is too large is refused before it is all there."""
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > LIMIT:
            raise TooLarge(f"The call has more than {LIMIT:,} bytes.", "Send a reference instead.")
    return bytes(found)


def _refused(error: TidewheelError) -> Response:
    code = next((code for kind, code in CODES if isinstance(error, kind)), 500)
    return _json({"error": error.what, "mend": error.mend}, code)


def _json(content: object, code: int) -> Response:
    return Response(orjson.dumps(content), code, media_type="application/json")
