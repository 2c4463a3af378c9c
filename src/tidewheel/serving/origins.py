"""Let pages of other origins ask this server (CORS): the origins that the settings name, and no cookies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tidewheel.errors import InvalidInput
from tidewheel.serving.admission import Admission
from tidewheel.serving.later import Later
from tidewheel.serving.response import Header, Response

_METHODS: Header = (b"access-control-allow-methods", b"GET, HEAD, POST")
_EXPOSED: Header = (b"access-control-expose-headers", b"x-request-id, inference-header-content-length, retry-after")
_HEADERS = (
    b"authorization, content-type, inference-header-content-length, traceparent, tracestate, x-api-key, x-request-id, "
    b"x-unit-id"
)
_AGE: Header = (b"access-control-max-age", b"600")
_VARY: Header = (b"vary", b"origin")


class Served(Protocol):
    """What a front carries bytes to: an engine, or one with something around it."""

    @property
    def body_limit(self) -> int:
        """Bytes that a body may have."""
        ...

    @property
    def admission(self) -> Admission:
        """What is let in."""
        ...

    def handle(self, method: str, path: str, headers: Sequence[Header], body: bytes) -> Response:
        """Answer one request now."""
        ...

    def submit(
        self, method: str, path: str, headers: Sequence[Header], body: bytes, deliver: Callable[[Response], None]
    ) -> bool:
        """Take one request; return whether it waits for a flush."""
        ...

    def flush(self) -> None:
        """Answer what waits."""
        ...

    def oversized(self, method: str, path: str, headers: Sequence[Header]) -> Response:
        """Refuse a body that was not read to its end."""
        ...


class CrossOrigin:
    """An engine that pages of some origins may ask.

    Credentials (cookies, client certificates) are never allowed: keys travel in a header that the page sets itself,
    so `*` opens nothing that a key does not.
    """

    def __init__(self, inner: Served, origins: Sequence[str]) -> None:
        self._inner = inner
        self._any = "*" in origins
        self._origins = frozenset(check_origin(each).encode() for each in origins if each != "*")

    @property
    def body_limit(self) -> int:
        """Bytes that a body may have."""
        return self._inner.body_limit

    @property
    def admission(self) -> Admission:
        """What is let in."""
        return self._inner.admission

    def handle(self, method: str, path: str, headers: Sequence[Header], body: bytes) -> Response:
        """Answer one request, a preflight too."""
        preflight = self._asked(method, headers)
        if preflight is not None:
            return preflight
        response = self._inner.handle(method, path, headers, body)
        if isinstance(response, Later):
            return response.then(lambda found: self._marked(headers, found))
        return self._marked(headers, response)

    def submit(
        self, method: str, path: str, headers: Sequence[Header], body: bytes, deliver: Callable[[Response], None]
    ) -> bool:
        """Take one request; return whether it waits for a flush."""
        preflight = self._asked(method, headers)
        if preflight is not None:
            deliver(preflight)
            return False
        return self._inner.submit(
            method, path, headers, body, lambda response: deliver(self._marked(headers, response))
        )

    def flush(self) -> None:
        """Answer what waits."""
        self._inner.flush()

    def oversized(self, method: str, path: str, headers: Sequence[Header]) -> Response:
        """Refuse a body that was not read to its end."""
        return self._marked(headers, self._inner.oversized(method, path, headers))

    def _asked(self, method: str, headers: Sequence[Header]) -> Response | None:
        """Return the answer to a preflight, None to anything else."""
        if method != "OPTIONS" or not _value(headers, b"access-control-request-method"):
            return None
        allowed = self._allowed(headers)
        if not allowed:
            return Response(403, (_VARY,), b"")
        return Response(204, (*allowed, _METHODS, (b"access-control-allow-headers", _HEADERS), _AGE), b"")

    def _marked(self, headers: Sequence[Header], response: Response) -> Response:
        allowed = self._allowed(headers)
        extra = (*allowed, _EXPOSED) if allowed else (_VARY,)
        return Response(response.status, (*response.headers, *extra), response.body)

    def _allowed(self, headers: Sequence[Header]) -> tuple[Header, ...]:
        origin = _value(headers, b"origin")
        if not origin:
            return ()
        if self._any:
            return ((b"access-control-allow-origin", b"*"),)
        return ((b"access-control-allow-origin", origin), _VARY) if origin in self._origins else ()


def check_origin(text: str) -> str:
    """Return an origin that browsers can send; InvalidInput for anything else.

    >>> check_origin("https://shop.example")
    'https://shop.example'
    """
    scheme, mark, host = text.partition("://")
    if text != "*" and (scheme not in ("http", "https") or not mark or not host or set(host) & set("/?#@ ")):
        raise InvalidInput(f"{text!r} is no origin.", "Write scheme://host or scheme://host:port, without a path.")
    return text


def _value(headers: Sequence[Header], name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")
