"""The default front: uvicorn (httptools, uvloop) around a raw ASGI callable."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping, Sized
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from tidewheel.errors import InvalidInput
from tidewheel.serving.admission import Admission
from tidewheel.serving.later import arrived
from tidewheel.serving.limits import DEFAULTS, Limits
from tidewheel.serving.origins import Served
from tidewheel.serving.response import JSON, Response, error_response, json_response
from tidewheel.serving.watchdog import Watchdog

DRAIN_PAUSE = 0.01  # seconds between looks whether busy connections have ended by themselves
DRAIN_LOOKS = 50
SWEEP_TICKS = 10  # of uvicorn's, ten a second
OVERFLOW = 4  # a refused body is read to this many times the limit, so that its sender gets to read the refusal
FEW = 64  # requests under way that are not worth counting
CLOSE = (b"connection", b"close")
FAILED = json_response(500, {"error": "The server failed.", "mend": "The cause stands in its own log."})

logger = logging.getLogger("tidewheel.serving")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]


class Draining:
    """Whether the server is about to stop, so that answers ask callers to open another connection."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False


class _UnderWay:
    """Counts uvicorn's requests, whose set is there only after the application."""

    def __init__(self) -> None:
        self.tasks: Sized = ()

    def __len__(self) -> int:
        return len(self.tasks)


class _Gone(Exception):
    """The caller closed the connection before its request was whole."""


class _Overflow(Exception):
    """A body grew larger than one may be."""


def application(
    engine: Served, draining: Draining | None = None, limits: Limits = DEFAULTS, under_way: Sized = ()
) -> Application:
    """Return the ASGI callable of an engine that somebody else starts and closes.

    `under_way` is what the server has parsed and not answered yet. Requests are scored one by one: to hold them until
    the end of their turn gained nothing measurable behind uvicorn, and lost callers who close their end at once.
    """
    drain = draining or Draining()
    handle, door, limit = engine.handle, engine.admission, engine.body_limit

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise InvalidInput(f"A {scope['type']} connection cannot be served.", "Speak HTTP.")
        method = scope["method"]
        body = b""
        if method == "POST":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body = message.get("body", b"")
            if message.get("more_body", False):
                try:
                    body = await asyncio.wait_for(_rest(body, scope, receive, limit), limits.body_seconds)
                except _Gone:
                    return
                except TimeoutError:
                    await _send(send, _too_slow(limits), (CLOSE,))
                    return
                except _Overflow:
                    await _send(send, engine.oversized(method, scope["path"], scope["headers"]), (CLOSE,))
                    return
        try:
            found = _busy(door, len(under_way)) or handle(method, scope["path"], scope["headers"], body)
            response = await arrived(found)
        except Exception:
            logger.exception("%s %s failed", method, scope["path"])
            response = FAILED
        await _send(send, response, (CLOSE,) if drain.on else ())

    return app


async def answer(
    engine: Served,
    listening: socket.socket,
    limits: Limits,
    *,
    tls: ssl.SSLContext | None,
    on_ready: Callable[[], None],
    beat: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    draining, under_way = Draining(), _UnderWay()
    app = application(engine, draining, limits, under_way)
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="none",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=max(round(limits.idle_seconds), 1),
        timeout_graceful_shutdown=max(round(limits.drain_seconds), 1),
    )
    config.load()
    config.ssl = tls
    server = _Server(config, draining, on_ready, limits)
    under_way.tasks = server.server_state.tasks
    watchdog = Watchdog(limits.timeout_seconds, server.give_up, beat=beat)
    watchdog.start()
    try:
        await server.serve(sockets=[listening])
    finally:
        watchdog.stop()


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, lets connections end before it closes them, and returns after a signal."""

    def __init__(
        self, config: uvicorn.Config, draining: Draining, on_ready: Callable[[], None], limits: Limits = DEFAULTS
    ) -> None:
        super().__init__(config)
        self._draining = draining
        self._on_ready = on_ready
        self._limits = limits
        self._quiet: dict[Any, tuple[Any, float]] = {}  # connection -> its last request, and since when it sends none

    def give_up(self, answer: bytes) -> None:
        """Answer whoever waits from another thread, while the loop hangs in a call; the process ends after it."""
        for connection in list(self.server_state.connections):
            cycle, transport = getattr(connection, "cycle", None), getattr(connection, "transport", None)
            if cycle is None or transport is None or cycle.response_started:
                continue
            if transport.get_extra_info("sslcontext") is None and not transport.get_write_buffer_size():
                with suppress(OSError):
                    os.write(transport.get_extra_info("socket").fileno(), answer)

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_TICKS == 0:
            self._sweep(time.monotonic())
        return await super().on_tick(counter)

    def _sweep(self, now: float) -> None:
        """Close connections whose next head does not come; uvicorn itself waits for ever once it has begun."""
        seen: dict[Any, tuple[Any, float]] = {}
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue
            before = self._quiet.get(connection)
            since = before[1] if before is not None and before[0] is cycle else now
            seen[connection] = (cycle, since)
            patience = self._limits.head_seconds
            if getattr(connection, "timeout_keep_alive_task", None) is not None:
                patience = self._limits.idle_seconds + SWEEP_TICKS  # uvicorn's own timer is first
            if now - since > patience and connection.transport is not None:
                connection.transport.close()
        self._quiet = seen

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._draining.on = True  # every answer now closes its connection, at a moment when nothing is under way
        for server in self.servers:
            server.close()
        for _ in range(DRAIN_LOOKS):
            if not self.server_state.connections:
                break
            await asyncio.sleep(DRAIN_PAUSE)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def _busy(door: Admission, under_way: int) -> Response | None:
    """Return the refusal when too much waits: what came first is answered first, so what is counted is behind it."""
    if under_way < FEW:
        return None
    refusal = door.crowded(under_way)
    return error_response(refusal) if refusal is not None else None


async def _send(send: Send, response: Response, tail: tuple[tuple[bytes, bytes], ...]) -> None:
    body = response.body
    headers = (*response.headers, (b"content-length", b"%d" % len(body)), *tail)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _rest(first: bytes, scope: Message, receive: Receive, limit: int) -> bytes:
    """Return a body that comes in pieces. Raises _Overflow for one that is too large, _Gone when the caller left."""
    announced = next((int(v) for n, v in scope["headers"] if n == b"content-length" and v.isdigit()), 0)
    pieces, size = [first], len(first)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        piece = message.get("body", b"")
        size += len(piece)
        if size <= limit:
            pieces.append(piece)
        if size > limit * OVERFLOW or (size > limit and announced > limit * OVERFLOW):
            break
        if not message.get("more_body", False):
            break
    if size > limit:
        raise _Overflow
    return b"".join(pieces)


def _too_slow(limits: Limits) -> Response:
    error = InvalidInput(
        f"The body did not come within {limits.body_seconds:g} seconds.", "Send it faster, or less of it."
    )
    return Response(408, (JSON,), error_response(error).body)
