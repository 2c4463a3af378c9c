"""HTTP in front of the engine: a raw ASGI callable, and the uvicorn process around it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn

from tidewheel.errors import Conflict, InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.serving.engine import Engine
from tidewheel.serving.response import JSON, Response, error_response, json_response

BODY_SECONDS = 30.0  # how long a caller may take to send a body
DRAIN_PAUSE = 0.01  # seconds between looks whether busy connections have ended by themselves
DRAIN_LOOKS = 50
OVERFLOW = 4  # a refused body is read to this many times the limit, so that its sender gets to read the refusal
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


class _Gone(Exception):
    """The caller closed the connection before its request was whole."""


class _Overflow(Exception):
    """A body grew larger than one may be."""


def application(engine: Engine, draining: Draining | None = None) -> Application:
    """Return the ASGI callable of an engine that somebody else starts and closes."""
    drain = draining or Draining()
    handle = engine.handle
    limit = engine.body_limit

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
                    body = await asyncio.wait_for(_rest(body, scope, receive, limit), BODY_SECONDS)
                except _Gone:
                    return
                except TimeoutError:
                    await _send(send, _too_slow(), (CLOSE,))
                    return
                except _Overflow:
                    await _send(send, engine.oversized(method, scope["path"], scope["headers"]), (CLOSE,))
                    return
        try:
            response = handle(method, scope["path"], scope["headers"], body)
        except Exception:
            logger.exception("%s %s failed", method, scope["path"])
            response = FAILED
        await _send(send, response, (CLOSE,) if drain.on else ())

    return app


def serve(
    store: Store,
    *,
    models: Sequence[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8600,
    strict: bool = False,
    trust: bool = False,
    fast: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve models over HTTP in this process until SIGTERM or SIGINT, then drain and return.

    `models` None serves every deployed model, also those deployed later; port 0 takes a free one; `on_ready` is called
    with the URL once requests are accepted; `fast` takes our own front instead of uvicorn. See Engine for `strict` and
    `trust`.

    Raises StorageUnavailable when the store cannot be read, Conflict when the port is taken, InvalidInput for an
    address that is not this machine's.
    """
    listening = _listen(host, port)
    draining = Draining()
    engine = Engine(store, models, strict=strict, trust=trust)
    # A bundle is loaded in a thread of this process: the shorter switch keeps answers from waiting 5 ms for it.
    sys.setswitchinterval(0.0005)
    bound = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host

    def ready() -> None:
        if on_ready is not None:
            on_ready(f"http://{shown}:{bound}")

    try:
        engine.start()
        if fast:
            _run_fast(engine, listening, ready)
        else:
            _Server(_config(application(engine, draining)), draining, ready).run(sockets=[listening])
    finally:
        engine.close()
        listening.close()


def _config(app: Application) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=10,
    )


def _run_fast(engine: Engine, listening: socket.socket, on_ready: Callable[[], None]) -> None:
    from tidewheel.serving.fast import run_front

    async def until_told() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for each in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(each, stop.set)
        listening.settimeout(0)
        await run_front(engine, listening, stop, on_ready)

    if sys.platform == "win32":
        asyncio.run(until_told())
    else:
        import uvloop

        uvloop.run(until_told())


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, lets connections end before it closes them, and returns after a signal."""

    def __init__(self, config: uvicorn.Config, draining: Draining, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._draining = draining
        self._on_ready = on_ready

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


def _too_slow() -> Response:
    error = InvalidInput(f"The body did not come within {BODY_SECONDS:.0f} seconds.", "Send it faster, or less of it.")
    return Response(408, (JSON,), error_response(error).body)


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except PermissionError as error:
        listening.close()
        raise InvalidInput(f"Port {port} needs privileges.", "Choose one above 1023, or 0 for a free one.") from error
    except OSError as error:
        listening.close()
        if isinstance(error, socket.gaierror) or error.errno == 99:
            raise InvalidInput(f"{host!r} is no address of this machine.", "Use 127.0.0.1 or 0.0.0.0.") from error
        raise Conflict(
            f"Port {port} on {host} is taken: {error.strerror}.", "Stop what holds it, or choose another with --port."
        ) from error
    return listening
