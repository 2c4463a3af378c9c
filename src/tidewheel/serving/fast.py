"""The fast front: httptools on a socket, no ASGI in between, answers of one event-loop turn scored together.

It does what the default front does, for half its CPU: limits on head and body, time limits, chunked bodies, answers in
the order of pipelined requests, back-pressure, and a drain that cuts nobody off.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote_to_bytes

import httptools

from tidewheel.errors import InvalidInput, NotReady
from tidewheel.serving.engine import Engine
from tidewheel.serving.response import JSON, Header, Response, error_response, json_response

HEAD_LIMIT = 64 << 10  # bytes of one request's line and headers
HEADER_COUNT = 100
HEAD_SECONDS = 15.0  # within which a head must be whole
BODY_SECONDS = 30.0  # within which a body must be whole
IDLE_SECONDS = 75.0  # after which a connection without a request is closed
PIPELINE = 64  # requests of one connection that may wait for their answers
WAITING = 2_000  # requests of all connections that may wait for their answers
OVERFLOW = 4  # a refused body is read to this many times the limit, so that its sender gets to read the refusal
LINGER_SECONDS = 2.0  # for which a refused caller is listened to, so that the refusal is not lost in a reset
SWEEP_SECONDS = 1.0

_FAILED = json_response(500, {"error": "The server failed.", "mend": "The cause stands in its own log."})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

logger = logging.getLogger("tidewheel.serving")


class FastFront:
    """Accepts connections for an engine that somebody else starts and closes; for one event loop."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.draining = False
        self.connections: set[_Connection] = set()
        self.ready: list[_Connection] = []  # those with an answer that can leave
        self.waiting = 0  # requests whose answers have not left yet
        self._empty = asyncio.Event()  # whether no connection is left while draining
        self._loop = asyncio.get_running_loop()
        self._due = False  # whether a flush ends this turn
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self, listening: socket.socket) -> None:
        """Accept connections on a socket that listens."""
        self._server = await self._loop.create_server(lambda: _Connection(self), sock=listening, backlog=2048)
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._swept)

    async def stop(self, seconds: float = 10.0) -> None:
        """Accept no more, answer what is under way, and close; after `seconds` whatever is left is cut off."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.connections):
            connection.drain()
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        for connection in list(self.connections):
            connection.cut()

    def turn_ends(self) -> None:
        """Ask for a flush once all that has arrived by now is submitted."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)

    def forget(self, connection: _Connection) -> None:
        """Count a connection that has ended."""
        self.connections.discard(connection)
        if self.draining and not self.connections:
            self._empty.set()

    def _flush(self) -> None:
        self._due = False
        try:
            self.engine.flush()
        except Exception:
            logger.exception("a batch failed")
            for connection in list(self.connections):
                connection.fail()
        ready, self.ready = self.ready, []
        for connection in ready:
            connection.send()

    def _swept(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check(now)
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._swept)


class _Slot:
    """The place of one answer in the order of its connection."""

    __slots__ = ("connection", "head", "keep", "response")

    def __init__(self, connection: _Connection, *, keep: bool, head: bool) -> None:
        self.connection = connection
        self.keep = keep  # whether the connection goes on after it
        self.head = head  # whether the body is left out, as HEAD wants it
        self.response: Response | None = None

    def deliver(self, response: Response) -> None:
        """Take the answer; it leaves when those before it have left."""
        self.response = response
        self.connection.can_send()


class _Connection(asyncio.Protocol):
    """One connection: parses requests, keeps their order, writes answers."""

    def __init__(self, front: FastFront) -> None:
        self._listed = False  # whether the front knows that an answer can leave
        self._front = front
        self._engine = front.engine
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._slots: deque[_Slot] = deque()
        self._closing = False  # whether nothing more is taken in
        self._lingers = False  # whether what comes is read and thrown away
        self._refused = False  # whether the last answer refuses what is still being sent
        self._paused = False  # whether the caller reads too slowly
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

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, which has the same methods
        self._front.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """End; answers that have not left are dropped."""
        del error
        self._front.forget(self)
        self._front.waiting -= len(self._slots)
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
        if not self._in_body and self._head_size > HEAD_LIMIT and not self._closing:
            self._refuse(431, f"The head is larger than {HEAD_LIMIT:,} bytes.", "Send fewer or shorter headers.")
        self._front.turn_ends()

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
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._paused = False
        self.send()

    # What the parser says.

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
        if len(self._headers) > HEADER_COUNT or self._header_size > HEAD_LIMIT:
            what = f"There may be {HEADER_COUNT} headers of {HEAD_LIMIT:,} bytes together."
            self._refuse(431, what, "Send fewer or shorter headers.")
            return
        if self._parser.should_upgrade():
            self._refuse(501, "This server does not switch protocols.", "Leave the Upgrade header out.")
            return
        for name, value in self._headers:
            if name == b"expect" and value.lower() == b"100-continue" and self._transport and not self._slots:
                self._transport.write(_CONTINUE)
        self._since = time.monotonic()

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, chunked or not."""
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
        method = self._parser.get_method().decode("latin-1")
        slot = self._slot(method, keep=self._parser.should_keep_alive() and not self._front.draining)
        if self._front.waiting > WAITING:
            busy = NotReady(f"More than {WAITING:,} requests wait.", "Try again in a second, or add workers.")
            slot.deliver(Response(429, (JSON, (b"retry-after", b"1")), error_response(busy).body))
            return
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        try:
            self._engine.submit(method, self._path(), self._headers, body, slot.deliver)
        except Exception:
            logger.exception("%s %s failed", method, self._url[:200])
            slot.deliver(_FAILED)

    # What the front says.

    def can_send(self) -> None:
        """Let the front know that an answer can leave."""
        if not self._listed:
            self._listed = True
            self._front.ready.append(self)

    def send(self) -> None:
        """Write the answers whose turn it is, with one write."""
        self._listed = False
        transport, slots = self._transport, self._slots
        if transport is None or self._paused:
            return
        parts: list[bytes] = []
        keep = True
        while slots and slots[0].response is not None and keep:
            slot = slots.popleft()
            self._front.waiting -= 1
            keep = slot.keep
            _write(parts, slot)
        if parts:
            transport.write(b"".join(parts))
        if not keep:
            self._closing = True
            self._leave(transport)
        elif len(slots) < PIPELINE and not self._closing:
            transport.resume_reading()

    def _leave(self, transport: asyncio.Transport) -> None:
        """Close; a refused caller who is still sending is let finish, or the kernel would reset the line."""
        if self._refused and transport.can_write_eof() and not transport.is_closing():
            self._lingers = True
            self._since = time.monotonic()
            transport.write_eof()
        else:
            transport.close()

    def check(self, now: float) -> None:
        """Close what takes too long: a head, a body, or a connection that says nothing."""
        waited = now - self._since
        if self._lingers and waited > LINGER_SECONDS:
            self.cut()
        if self._slots or self._closing:
            return
        if self._in_body and waited > BODY_SECONDS:
            self._refuse(408, f"The body did not come within {BODY_SECONDS:.0f} seconds.", "Send it faster.")
            self.send()
        elif (self._in_request or self._head_size) and not self._in_body and waited > HEAD_SECONDS:
            self._refuse(408, f"The head did not come within {HEAD_SECONDS:.0f} seconds.", "Send it faster.")
            self.send()
        elif waited > IDLE_SECONDS:
            self.cut()

    def drain(self) -> None:
        """Close now if nothing is under way, else after its answer."""
        if self._slots:
            self._slots[-1].keep = False
        elif not self._in_request:
            self.cut()

    def fail(self) -> None:
        """Answer what waits with the server's failure."""
        for slot in self._slots:
            if slot.response is None:
                slot.deliver(_FAILED)

    def cut(self) -> None:
        """Close at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _slot(self, method: str, *, keep: bool) -> _Slot:
        slot = _Slot(self, keep=keep, head=method == "HEAD")
        self._slots.append(slot)
        self._front.waiting += 1
        if len(self._slots) >= PIPELINE and self._transport is not None:
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


def _write(parts: list[bytes], slot: _Slot) -> None:
    response = slot.response or _FAILED
    parts.append(_LINES.get(response.status) or b"HTTP/1.1 %d \r\n" % response.status)
    for name, value in response.headers:
        parts += (name, b": ", value, b"\r\n")
    if not slot.keep:
        parts.append(b"connection: close\r\n")
    parts.append(b"content-length: %d\r\n\r\n" % len(response.body))
    if not slot.head:
        parts.append(response.body)


async def run_front(
    engine: Engine, listening: socket.socket, stop: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    """Serve until `stop` is set, then drain."""
    front = FastFront(engine)
    await front.start(listening)
    on_ready()
    await stop.wait()
    await front.stop()
