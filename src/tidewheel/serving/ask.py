"""A decoded request: rows of values, and who asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tidewheel.clock import new_id
from tidewheel.errors import InvalidInput
from tidewheel.serving.response import Header

MAX_ID = 200  # characters
MAX_ROWS = 10_000

Row = tuple[Any, ...]  # values of the log; UNSET where a column that only a challenger reads was left out


class Ask(msgspec.Struct, gc=False):
    """What is to be scored. Positional, because one is built per request."""

    id: str  # request id: the caller's, else a new one
    unit: str  # what the split is keyed on; empty: the request id
    rows: Sequence[Row]  # values in the order of the codec's fields; a list, or a Block when they came as one matrix
    echo: bytes  # value for the x-request-id header
    notes: list[str]  # what was odd but allowed, such as an unseen category
    wanted: Sequence[str] | None = None  # outputs that an Open Inference request names
    parameters: dict[str, Any] | None = None  # to be echoed
    raw: frozenset[str] = frozenset()  # outputs that are wanted as raw bytes
    wire: str = ""  # how the answer is written where the language knows several ways


class Caller(msgspec.Struct, frozen=True, gc=False):
    """What the headers say about who asks."""

    request_id: str  # a usable x-request-id, or ""
    unit: str  # x-unit-id, or ""
    echo: bytes  # x-request-id as it came, or b""


NOBODY = Caller("", "", b"")


def caller_of(headers: Iterable[Header]) -> Caller:
    """Read x-request-id and x-unit-id. A printable request id that cannot name rows is echoed, but not used as one."""
    echo = unit = b""
    for name, value in headers:
        if name == b"x-request-id":
            echo = value
        elif name == b"x-unit-id":
            unit = value
    if not echo and not unit:
        return NOBODY
    named = echo.decode("latin-1")
    shown = echo if named.isascii() and named.isprintable() else b""
    return Caller(named if _usable(named) else "", unit.decode("latin-1"), shown)


def identify(given: str | None, caller: Caller) -> tuple[str, bytes]:
    """Return the request id and what x-request-id says in the answer.

    Raises InvalidInput for an id in the body that cannot name rows.
    """
    if given is not None:
        if not _usable(given):
            raise InvalidInput(
                f"The id {given[:60]!r} cannot be used.",
                f"Give 1 to {MAX_ID} printable ASCII characters without '/' (which parts request and row), or no id.",
            )
        return given, caller.echo or given.encode()
    request_id = caller.request_id or new_id()
    return request_id, caller.echo or request_id.encode()


def _usable(text: str) -> bool:
    return 0 < len(text) <= MAX_ID and text.isascii() and text.isprintable() and "/" not in text
