"""A line per request for people and machines, and the trace that a request is part of.

Nothing of a request's content and no credential is ever written: a line holds names, numbers and the path.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from tidewheel.errors import InvalidInput
from tidewheel.serving.response import Response

MOST_LINES = 50_000  # that wait to be written; older ones are given up
PATH_SHOWN = 300  # characters
TO_STDERR = "stderr"
TRACEPARENT = b"traceparent"

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_encode = msgspec.json.Encoder().encode


class Trace(msgspec.Struct, frozen=True, gc=False):
    """A place in a distributed trace: W3C Trace Context, level 1 (2021)."""

    trace_id: str  # 32 hexadecimal digits
    span_id: str  # 16 hexadecimal digits
    flags: str  # two hexadecimal digits; the last bit: sampled

    @property
    def header(self) -> bytes:
        """The value of a traceparent header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}".encode()


def parse_trace(value: bytes) -> Trace | None:
    """Return the place that a traceparent header names; None for one that is not valid, which starts no trace.

    >>> parse_trace(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").span_id
    'b7ad6b7169203331'
    >>> parse_trace(b"00-00000000000000000000000000000000-b7ad6b7169203331-01")
    """
    found = _TRACEPARENT.fullmatch(value) if len(value) <= 512 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Trace(trace_id.decode(), span_id.decode(), flags.decode())


def next_span(before: Trace) -> Trace:
    """Return the place of this server's own work in the trace of its caller."""
    return Trace(before.trace_id, os.urandom(8).hex(), before.flags)


class Visit(msgspec.Struct, gc=False):
    """One request on its way; positional, because one is built per request while anybody looks."""

    method: str  # of HTTP, or of the transport
    path: str  # without query
    started: int  # nanoseconds since 1970
    caller: str  # name of the key, or ""
    size: int  # bytes of the body
    parent: Trace | None  # what the caller's header says
    span: Trace | None  # this server's place in that trace
    model: str = ""  # whose model answers
    version: str = ""  # which version was asked


class Line(msgspec.Struct, omit_defaults=True):
    """A line of the access log."""

    time: str  # ISO 8601, UTC, when the request was whole
    id: str  # request id, as in the prediction log
    method: str  # of HTTP
    path: str  # without query
    status: int  # of the answer
    ms: float  # from the last byte of the request to the answer
    received: int  # bytes of the request's body
    sent: int  # bytes of the answer's body
    model: str = ""  # name of the model
    version: str = ""  # version that was asked
    key: str = ""  # name of the API key
    trace: str = ""  # id of the trace


class Spans(Protocol):
    """Where spans go."""

    def span(self, visit: Visit, status: int, ended: int) -> Trace | None:
        """Take a finished request; return its place when the trace begins here, else None."""
        ...

    def close(self) -> None:
        """Send what waits."""
        ...


class AccessLog:
    """Keeps lines in memory until `write`, which the server's sync thread calls each second."""

    def __init__(self, target: str) -> None:
        self.lost = 0  # lines given up
        self._file = None if target == TO_STDERR else Path(target)
        self._lines: deque[bytes] = deque()
        if self._file is not None:
            self._open(self._file)

    def add(self, line: Line) -> None:
        """Keep a line."""
        if len(self._lines) >= MOST_LINES:
            self._lines.popleft()
            self.lost += 1
        self._lines.append(_encode(line) + b"\n")

    def write(self) -> None:
        """Write what was kept, with one write; the file is opened anew each time, so that it may be moved away."""
        text = b"".join([self._lines.popleft() for _ in range(len(self._lines))])
        if not text:
            return
        try:
            if self._file is None:
                sys.stderr.buffer.write(text)
                sys.stderr.flush()
            else:
                self._open(self._file, text)
        except (OSError, InvalidInput):
            self.lost += text.count(b"\n")

    def _open(self, file: Path, text: bytes = b"") -> None:
        try:
            with file.open("ab", buffering=0) as opened:
                opened.write(text)
        except OSError as error:
            raise InvalidInput(
                f"The access log {file} cannot be written: {error.strerror}.", "Name another file, or stderr."
            ) from error


class Watch:
    """What is told about requests: the access log, and spans. `on` is False when nobody wants to know."""

    def __init__(
        self, log: AccessLog | None, spans: Spans | None, caller: Callable[[Mapping[bytes, bytes]], str]
    ) -> None:
        self.on = log is not None or spans is not None
        self.log = log
        self._spans = spans
        self._caller = caller

    def begin(self, method: str, path: str, headers: Mapping[bytes, bytes], size: int) -> Visit:
        """Take note of a request."""
        parent = parse_trace(headers.get(TRACEPARENT, b""))
        span = None if parent is None else next_span(parent)
        caller = self._caller(headers) if self.on else ""
        return Visit(method, path, time.time_ns(), caller, size, parent, span)

    def end(self, visit: Visit, response: Response) -> Response:
        """Tell of the answer, and return it with its place in the trace."""
        span = visit.span
        if self.on:
            ended = time.time_ns()
            if self._spans is not None:
                span = self._spans.span(visit, response.status, ended) or span
            if self.log is not None:
                self.log.add(_line(visit, response, ended, span))
        if span is None:
            return response
        return Response(response.status, (*response.headers, (TRACEPARENT, span.header)), response.body)

    def delivering(self, visit: Visit, deliver: Callable[[Response], None]) -> Callable[[Response], None]:
        """Return a delivery that tells of the answer first."""
        return lambda response: deliver(self.end(visit, response))

    def write(self) -> None:
        """Write the lines that wait."""
        if self.log is not None:
            self.log.write()

    def close(self) -> None:
        """Write and send what waits."""
        self.write()
        if self._spans is not None:
            self._spans.close()


def _line(visit: Visit, response: Response, ended: int, span: Trace | None) -> Line:
    seconds, rest = divmod(visit.started, 1_000_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return Line(
        time=f"{moment}.{rest // 1_000:06d}Z",
        id=next((value.decode("latin-1") for name, value in response.headers if name == b"x-request-id"), ""),
        method=visit.method,
        path=visit.path[:PATH_SHOWN],
        status=response.status,
        ms=round((ended - visit.started) / 1e6, 3),
        received=visit.size,
        sent=len(response.body),
        model=visit.model,
        version=visit.version,
        key=visit.caller,
        trace="" if span is None else span.trace_id,
    )
