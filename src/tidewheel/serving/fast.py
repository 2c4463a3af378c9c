"""The fast front: httptools on a socket, no ASGI in between, answers of one event-loop turn scored together.

It does what the default front does, for half its CPU: limits on head and body, time limits, chunked bodies, answers in
the order of pipelined requests, back-pressure, TLS, and a drain that cuts nobody off.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

from tidewheel.serving.connection import Connection, Shared
from tidewheel.serving.limits import DEFAULTS, Limits
from tidewheel.serving.origins import Served

PARTING_SECONDS = 0.5  # for which a stopping server takes one more request on an idle connection
SWEEP_SECONDS = 1.0


class FastFront:
    """Accepts connections for an engine that somebody else starts and closes; for one event loop."""

    def __init__(self, engine: Served, limits: Limits = DEFAULTS, tls: ssl.SSLContext | None = None) -> None:
        self._shared = Shared(engine, limits)
        self._limits = limits
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> set[Connection]:
        """Connections that are open."""
        return self._shared.connections

    async def start(self, listening: socket.socket) -> None:
        """Accept connections on a socket that listens."""
        self._server = await self._loop.create_server(
            lambda: Connection(self._shared), sock=listening, backlog=2048, ssl=self._tls
        )
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._swept)

    async def stop(self) -> None:
        """Accept no more, answer what is under way, and close; whatever is left after a while is cut off.

        An idle connection is given a moment for a request that may be on its way, which is then its last.
        """
        self._shared.draining = True
        if self._server is not None:
            self._server.close()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.connections):
            connection.drain(idle=False)
        await self._emptied(min(PARTING_SECONDS, self._limits.drain_seconds))
        for connection in list(self.connections):
            connection.drain(idle=True)
        await self._emptied(self._limits.drain_seconds)
        for connection in list(self.connections):
            connection.cut()

    async def _emptied(self, seconds: float) -> None:
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._shared.empty.wait(), seconds)

    def give_up(self, answer: bytes) -> None:
        """Answer whoever waits from another thread, while the loop hangs in a call; the process ends after it."""
        for connection in list(self.connections):
            connection.give_up(answer)

    def _swept(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check(now)
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._swept)


async def run_front(
    front: FastFront, listening: socket.socket, stop: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    """Serve until `stop` is set, then drain."""
    await front.start(listening)
    on_ready()
    await stop.wait()
    await front.stop()
