"""What the engine answers, and how its errors look to a caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tidewheel.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    NotReady,
    Overloaded,
    StorageUnavailable,
    TidewheelError,
    TooLarge,
    Unauthorized,
    ValidationFailed,
)

Header = tuple[bytes, bytes]  # name in lower case, value

JSON: Header = (b"content-type", b"application/json")
TEXT: Header = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
HTML: Header = (b"content-type", b"text/html; charset=utf-8")
PLAIN: Header = (b"content-type", b"text/plain; charset=utf-8")

# The first situation that fits names the status.
_STATUS: Sequence[tuple[type[TidewheelError], int]] = (
    (NotFound, 404),
    (Unauthorized, 401),
    (Forbidden, 403),
    (TooLarge, 413),
    (ValidationFailed, 422),
    (InvalidInput, 400),
    (Overloaded, 429),
    (NotReady, 503),
    (StorageUnavailable, 507),
    (Conflict, 409),
)

_encode = msgspec.json.Encoder().encode


class Response(msgspec.Struct, frozen=True, gc=False):
    """One answer, for any transport. Positional, because one is built per request."""

    status: int  # HTTP status code
    headers: tuple[Header, ...]  # without content-length, which the transport adds
    body: bytes  # may be empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a request."""

    where: str  # JSON path of the value, such as $.rows[0].temp
    what: str  # what is wrong there, and what would be right


def json_response(status: int, content: Any, *headers: Header) -> Response:
    """Return content as JSON."""
    return Response(status, (JSON, *headers), _encode(content))


def error_response(error: TidewheelError, *headers: Header, request_id: str = "") -> Response:
    """Return an error as {"error", "mend", "problems"?, "id"?} under the status of its situation."""
    content: dict[str, Any] = {"error": error.what, "mend": error.mend}
    if request_id:
        content["id"] = request_id
    if isinstance(error, ValidationFailed) and error.findings:
        content["problems"] = error.findings
    retry: tuple[Header, ...] = ()
    if isinstance(error, NotReady | StorageUnavailable | Overloaded):
        retry = ((b"retry-after", b"%d" % getattr(error, "seconds", 1)),)
    return json_response(status_of(error), content, *retry, *headers)


def status_of(error: TidewheelError) -> int:
    """Return the HTTP status of a situation; 500 for one that is not the caller's doing.

    >>> status_of(NotFound("model", "bikse", ["bikes"]))
    404
    """
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
