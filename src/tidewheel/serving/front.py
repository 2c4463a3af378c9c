"""HTTP in front of the engine: what both fronts share, and the process around them."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tidewheel.lineage.store import Store
from tidewheel.serving.engine import DEFAULT_TERMS, Engine
from tidewheel.serving.explain import Explaining
from tidewheel.serving.fast import FastFront, run_front
from tidewheel.serving.listening import listen, url_of
from tidewheel.serving.manner import PLAIN, Manner
from tidewheel.serving.origins import CrossOrigin, Served
from tidewheel.serving.terms import Terms
from tidewheel.serving.watchdog import Watchdog


def serve(
    store: Store,
    *,
    models: Sequence[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8600,
    strict: bool = False,
    trust: bool = False,
    manner: Manner = PLAIN,
    terms: Terms = DEFAULT_TERMS,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve models over HTTP in this process until SIGTERM or SIGINT, then drain and return.

    `models` None serves every deployed model, also those deployed later; port 0 takes a free one; `on_ready` is called
    with the URL once requests are accepted; `manner` says how HTTP is spoken, `terms` who may ask. See Engine for
    `strict` and `trust`. A scoring call that hangs ends the process: have something that starts it again.

    Raises StorageUnavailable when the store cannot be read, Conflict when the port is taken, InvalidInput for an
    address that is not this machine's, or a certificate that cannot be used.
    """
    listening = listen(host, port)
    try:
        engine = Engine(store, models, strict=strict, trust=trust, limits=manner.limits, terms=terms)
        said = on_ready or (lambda _: None)
        run(engine, listening, manner, lambda: said(url_of(listening, host, manner.scheme)))
    finally:
        listening.close()


def run(
    engine: Engine,
    listening: socket.socket,
    manner: Manner,
    on_ready: Callable[[], None],
    *,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Start an engine, answer on a socket that listens until SIGTERM or SIGINT, drain, and close the engine.

    `beat` is called four times a second for as long as the event loop turns.
    """
    # A bundle is loaded in a thread of this process: the shorter switch keeps answers from waiting 5 ms for it.
    sys.setswitchinterval(0.0005)
    explaining = Explaining(engine)
    served: Served = CrossOrigin(explaining, manner.origins) if manner.origins else explaining
    tls = manner.tls()
    listening.settimeout(0)
    try:
        engine.start()
        if manner.front == "fast":
            main = _answer_fast(served, listening, manner, tls=tls, on_ready=on_ready, beat=beat)
        else:
            from tidewheel.serving.asgi import answer

            main = answer(served, listening, manner.limits, tls=tls, on_ready=on_ready, beat=beat)
        if manner.grpc_port:
            from tidewheel.serving.grpc_front import beside

            main = beside(main, served, manner, listening.getsockname()[0])
        _turn(main)
    finally:
        explaining.close()
        engine.close()


async def _answer_fast(
    served: Served,
    listening: socket.socket,
    manner: Manner,
    *,
    tls: ssl.SSLContext | None,
    on_ready: Callable[[], None],
    beat: Callable[[], None],
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, stop.set)
    front = FastFront(served, manner.limits, tls)
    watchdog = Watchdog(manner.limits.timeout_seconds, front.give_up, beat=beat)
    watchdog.start()
    try:
        await run_front(front, listening, stop, on_ready)
    finally:
        watchdog.stop()


def _turn(main: Coroutine[Any, Any, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(main)
    else:
        import uvloop

        uvloop.run(main)
