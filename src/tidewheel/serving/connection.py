"""One connection of the fast front: requests out of bytes, answers in their order, limits while reading."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote_to_bytes

import httptools

from tidewheel.errors import InvalidInput, Overloaded
from tidewheel.serving.limits import Limits
from tidewheel.serving.origins import Served
from tidewheel.serving.response import JSON, Header, Response, error_response, json_response

PIPELINE = 64  # requests of one connection that may wait for their answers
OVERFLOW = 4  # a refused body is read to this many times the limit, so that its sender gets to read the refusal
LINGER_SECONDS = 2.0  # for which a refused caller is listened to, so that the refusal is not lost in a reset

FAILED = json_response(500, {"error": "The server failed.", "mend": "The cause stands in its own log."})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

logger = logging.getLogger("tidewheel.serving")


class Shared:
    """What the connections of one front share; for one event loop."""

    def __init__(self, engine: Served, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self.draining = False
        self.connections: set[Connection] = set()
        self.ready: list[Connection] = []  # those with an answer that can leave
        self.waiting = 0  # requests whose answers have not left yet
        self.empty = asyncio.Event()  # whether no connection is left while draining
        self._loop = asyncio.get_running_loop()
        self._due = False  # whether a flush ends this turn

    def turn_ends(self) -> None:
        """Ask for a flush once all that has arrived by now is submitted."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)

    def can_send(self, connection: Intake) -> None:
        """Remember a connection with an answer that can leave."""
        if not connection.listed and isinstance(connection, Connection):
            connection.listed = True
            self.ready.append(connection)
            self.turn_ends()  # an answer may come in a turn in which no request does

    def forget(self, connection: Connection) -> None:
        """Count a connection that has ended."""
        self.connections.discard(connection)
        if self.draining and not self.connections:
            self.empty.set()

    def _flush(self) -> None:
        try:
            self.engine.flush()
        except Exception:
            logger.exception("a batch failed")
            for connection in list(self.connections):
                connection.fail()
        self._due = False  # only now: each answer asks for the turn's end, which is here
        ready, self.ready = self.ready, []
        for connection in ready:
            connection.send()


class _Slot:
    """The place of one answer in the order of its connection."""

    __slots__ = ("connection", "head", "keep", "old", "response")

    def __init__(self, connection: Intake, *, keep: bool, head: bool, old: bool = False) -> None:
        self.connection = connection
        self.keep = keep  # whether the connection goes on after it
        self.old = old  # whether the caller speaks HTTP/1.0, which has to be told that the connection goes on
        self.head = head  # whether the body is left out, as HEAD wants it
        self.response: Response | None = None

    def deliver(self, response: Response) -> None:
        """Take the answer; it leaves when those before it have left."""
        self.response = response
        self.connection.front.can_send(self.connection)


class Intake:
    """What one connection takes in: requests out of bytes, refused where they break a limit."""

    def __init__(self, front: Shared) -> None:
        self.listed = False  # whether the front knows that an answer can leave
        self.front = front
        self._engine = front.engine
        self._limits = front.limits
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._slots: deque[_Slot] = deque()
        self._closing = False  # whether nothing more is taken in
        self._lingers = False  # whether what comes is read and thrown away
        self._refused = False  # whether the last answer refuses what is still being sent
        self._paused = False  # whether the caller reads too slowly
        self._held = False  # whether nothing is read because too many requests wait
        self._stalled = 0.0  # since when what was written has not left; 0: it has
        self._head_size = 0  # bytes that came since the last head was whole
        self._since = time.monotonic()  # when what is awaited began: a head, a body, or idleness
        self._begin()
        self._in_request = False

    def _begin(self) -> None:
        self._url = b""
        self._headers: list[Header] = []
        self._header_size = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._in_request = True
        self._in_body = False

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin()
        self._since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is whole."""
        self._headers.append((name.lower(), value))
        self._header_size += len(name) + len(value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_body = True
        self._head_size = 0
        limits = self._limits
        if len(self._headers) > limits.header_count or self._header_size > limits.head_bytes:
            self._refuse(431, _large_head(limits), "Send fewer or shorter headers.")
        elif self._parser.should_upgrade():
            self._refuse(501, "This server does not switch protocols.", "Leave the Upgrade header out.")
        else:
            self._expect()
        self._since = time.monotonic()

    def _expect(self) -> None:
        """Let a caller that asks before it sends know whether to; refuse at once what is announced as far too large."""
        for name, value in self._headers:
            if name == b"content-length" and int(value) > self._engine.body_limit * OVERFLOW:
                self._oversized()
                return
        for name, value in self._headers:
            if name == b"expect" and value.lower() == b"100-continue" and self._transport and not self._slots:
                self._transport.write(_CONTINUE)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, chunked or not."""
        if self._closing:
            return
        self._size += len(piece)
        if self._size <= self._engine.body_limit:
            self._pieces.append(piece)
        elif self._size > self._engine.body_limit * OVERFLOW:
            self._oversized()

    def on_message_complete(self) -> None:
        """The request is whole: submit it."""
        self._in_request = self._in_body = False
        self._head_size = 0
        self._since = time.monotonic()
        if self._closing:
            return
        if self._size > self._engine.body_limit:
            self._oversized()
            return
        parser, front = self._parser, self.front
        method = parser.get_method().decode("latin-1")
        keep = parser.should_keep_alive() and not front.draining
        slot = self._slot(method, keep=keep, old=keep and parser.get_http_version() == "1.0")
        if front.waiting > self._limits.waiting:
            busy = Overloaded(f"{front.waiting:,} requests wait.", "Try again later, or give the server more workers.")
            slot.deliver(error_response(busy))
            return
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        try:
            self._engine.submit(method, self._path(), self._headers, body, slot.deliver)
        except Exception:
            logger.exception("%s %s failed", method, self._url[:200])
            slot.deliver(FAILED)

    def _slot(self, method: str, *, keep: bool, old: bool = False) -> _Slot:
        slot = _Slot(self, keep=keep, head=method == "HEAD", old=old)
        self._slots.append(slot)
        self.front.waiting += 1
        if len(self._slots) >= PIPELINE and not self._held and self._transport is not None:
            self._held = True
            self._transport.pause_reading()
        return slot

    def _refuse(self, status: int, what: str, mend: str) -> None:
        """Answer with an error and close."""
        self._closing = self._refused = True
        error = InvalidInput(what, mend)
        self._slot("", keep=False).deliver(Response(status, (JSON,), error_response(error).body))

    def _oversized(self) -> None:
        method = self._parser.get_method().decode("latin-1")
        self._closing = self._refused = True
        self._slot(method, keep=False).deliver(self._engine.oversized(method, self._path(), self._headers))

    def _path(self) -> str:
        """Return the path without query and percent signs, as ASGI has it."""
        url = self._url
        if not url.startswith(b"/"):
            url = httptools.parse_url(url).path or b"/"
        path = url.partition(b"?")[0].partition(b"#")[0]
        return (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace")


class Connection(Intake, asyncio.Protocol):
    """One connection: feeds its parser, keeps the order of the answers, writes them."""

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, which has the same methods
        self.front.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """End; answers that have not left are dropped."""
        del error
        self.front.forget(self)
        self.front.waiting -= len(self._slots)
        self._slots.clear()
        self._closing = True

    def data_received(self, data: bytes) -> None:
        """Parse what came; a request that is whole is submitted from within."""
        if self._closing:
            self._size += len(data)
            if self._lingers and self._size > self._engine.body_limit * OVERFLOW:
                self.cut()
            return
        if not self._in_body:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # refused when its head was whole
        except (httptools.HttpParserError, UnicodeError) as error:
            if not self._closing:
                self._refuse(400, f"This is not HTTP: {error}.", "Speak HTTP.")
        if not self._in_body and self._head_size > self._limits.head_bytes and not self._closing:
            self._refuse(431, _large_head(self._limits), "Send fewer or shorter headers.")
        self.front.turn_ends()

    def eof_received(self) -> bool:
        """Go on until the answers have left, then close."""
        self._closing = True
        if self._lingers or not self._slots:
            return False
        self._slots[-1].keep = False
        self._refused = False
        return True

    def pause_writing(self) -> None:
        """Read nothing more from a caller who does not read."""
        self._paused = True
        self._stalled = time.monotonic()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._paused, self._stalled = False, 0.0
        self._held = True
        self.send()

    # What the front says.

    def send(self) -> None:
        """Write the answers whose turn it is, with one write."""
        self.listed = False
        transport, slots = self._transport, self._slots
        if transport is None or self._paused:
            return
        parts: list[bytes] = []
        keep = True
        while slots and slots[0].response is not None and keep:
            slot = slots.popleft()
            self.front.waiting -= 1
            keep = slot.keep
            _write(parts, slot)
        if parts:
            transport.write(b"".join(parts))
        if not keep:
            self._closing = True
            self._leave(transport)
        elif self._held and len(slots) < PIPELINE and not self._closing:
            self._held = False
            transport.resume_reading()

    def _leave(self, transport: asyncio.Transport) -> None:
        """Close; a refused caller who is still sending is let finish, or the kernel would reset the line."""
        if self._refused and transport.can_write_eof() and not transport.is_closing():
            self._lingers = True
            self._since = time.monotonic()
            transport.write_eof()
        else:
            transport.close()
        self._stalled = time.monotonic()

    def check(self, now: float) -> None:
        """Close what takes too long: a head, a body, answers that nobody reads, or a connection that says nothing."""
        waited, limits = now - self._since, self._limits
        if self._lingers and waited > LINGER_SECONDS:
            self.cut()
        if self._stalled and now - self._stalled > limits.write_seconds and self._transport is not None:
            self._transport.abort()  # to close it would wait for the reader
        if self._slots or self._closing:
            return
        if self._in_body and waited > limits.body_seconds:
            self._refuse(408, f"The body did not come within {limits.body_seconds:g} seconds.", "Send it faster.")
            self.send()
        elif (self._in_request or self._head_size) and not self._in_body and waited > limits.head_seconds:
            self._refuse(408, f"The head did not come within {limits.head_seconds:g} seconds.", "Send it faster.")
            self.send()
        elif waited > limits.idle_seconds:
            self.cut()

    def drain(self, *, idle: bool) -> None:
        """Make the newest answer, if one is under way, the last; an `idle` line is closed where that is asked for."""
        if self._slots:
            self._slots[-1].keep = False
        elif idle and not self._in_request:
            self.cut()

    def give_up(self, answer: bytes) -> None:
        """Write an answer past the loop to a caller who waits for one and has read all before it."""
        transport = self._transport
        waits = bool(self._slots) or self._in_request
        if transport is None or not waits or transport.get_extra_info("sslcontext") is not None:
            return
        if not transport.get_write_buffer_size():
            with suppress(OSError):
                os.write(transport.get_extra_info("socket").fileno(), answer)

    def fail(self) -> None:
        """Answer what waits with the server's failure."""
        for slot in self._slots:
            if slot.response is None:
                slot.deliver(FAILED)

    def cut(self) -> None:
        """Close at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()


def _write(parts: list[bytes], slot: _Slot) -> None:
    response = slot.response or FAILED
    parts.append(_LINES.get(response.status) or b"HTTP/1.1 %d \r\n" % response.status)
    for name, value in response.headers:
        parts += (name, b": ", value, b"\r\n")
    if not slot.keep:
        parts.append(b"connection: close\r\n")
    elif slot.old:
        parts.append(b"connection: keep-alive\r\n")
    parts.append(b"content-length: %d\r\n\r\n" % len(response.body))
    if not slot.head:
        parts.append(response.body)


def _large_head(limits: Limits) -> str:
    return f"There may be {limits.header_count} headers, {limits.head_bytes:,} bytes together."
