"""A TCP proxy before a PostgreSQL server that can be taken away, and that can lose the answer to a commit."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal

_COMMIT = b"COMMIT\0"  # as it stands in the protocol, where texts end in a zero byte

Loss = Literal["order", "answer"]  # what of a commit is lost: the order itself, or the answer to it


class Proxy:
    """Passes bytes on; `port` is where clients connect."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._gate = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listening: socket.socket | None = None
        self._at = 0  # which commit from now on is lost; 0: none
        self._loss: Loss = "order"
        self.port = 0
        self.cuts = 0  # how often the server was taken away
        self.up()

    def up(self) -> None:
        """Take connections again."""
        with self._gate:
            if self._listening is None:
                self._listening = socket.create_server(("127.0.0.1", self.port))
                self.port = self._listening.getsockname()[1]
                threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def down(self) -> None:
        """Cut every connection and take no new ones."""
        with self._gate:
            self.cuts += 1
            if self._listening is not None:
                with contextlib.suppress(OSError):
                    self._listening.shutdown(socket.SHUT_RDWR)
                self._listening.close()
                self._listening = None
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def lose(self, commit: int, loss: Loss) -> None:
        """Go down at the so manieth commit from now on, before it is passed on or before its answer is."""
        with self._gate:
            self._at, self._loss = commit, loss

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            with self._gate:
                if self._listening is not listening:
                    _close(client, server)
                    return
                self._pairs.append((client, server))
            doomed = threading.Event()
            for target in (self._orders, self._answers):
                threading.Thread(target=target, args=(client, server, doomed), daemon=True).start()

    def _orders(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                lost = _COMMIT in data and self._is_lost()
                if lost and self._loss == "order":
                    self.down()
                    return
                if lost:
                    doomed.set()
                server.sendall(data)
        _close(client, server)

    def _answers(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65_536):
                if doomed.is_set():
                    self.down()
                    return
                client.sendall(data)
        _close(client, server)

    def _is_lost(self) -> bool:
        with self._gate:
            self._at -= 1
            return self._at == 0


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
