"""What a worker and its parent say to each other: one line of JSON each, over a pair of sockets."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the parent tells a worker."""

    name: str = ""  # at the start: its name as a writer of logs
    number: int = 0  # at the start: its number, never used twice by one parent
    plan: str = ""  # at the start: what its parent was told to serve; not on a command line, which all users may read
    folder: str = ""  # at the start: where the workers meet
    flips: dict[str, int] = {}  # deployments (model -> number) that are to go live now, in all workers


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker tells its parent."""

    kind: Literal["ready", "beat", "prepared", "refused"]  # ready: it accepts connections; beat: its loop turns
    model: str = ""  # whose deployment is prepared or refused
    seq: int = 0  # its number
    reason: str = ""  # why it is refused


class Link:
    """The worker's end."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._buffer = b""
        self._encode = msgspec.json.Encoder().encode
        first = self._read()
        if first is None:
            raise SystemExit(0)  # the parent is gone already
        self.order = first

    def say(self, report: Report) -> None:
        """Tell the parent something; one that is gone is noticed elsewhere."""
        with suppress(OSError), self._lock:
            self._line.sendall(self._encode(report) + b"\n")

    def listen(self, heard: Callable[[Order], None]) -> None:
        """Hear what the parent says, in a thread; when the parent is gone, this process drains and ends."""

        def run() -> None:
            while (order := self._read()) is not None:
                heard(order)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=run, name="tidewheel-link", daemon=True).start()

    def _read(self) -> Order | None:
        while b"\n" not in self._buffer:
            try:
                piece = self._line.recv(1 << 16)
            except OSError:
                return None
            if not piece:
                return None
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return msgspec.json.decode(line, type=Order)
