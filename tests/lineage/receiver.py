"""A real HTTP receiver in this process: keeps what it is sent, and refuses when told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """Answers 201, or the status that is next in `answers`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.taken: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answers.pop(0) if self.server.answers else 201
        self.server.paths.append(self.path)
        self.server.headers.append(dict(self.headers.items()))
        self.server.bodies.append(body)
        if status < 300:
            self.server.taken.append(json.loads(body))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"so be it")

    def log_message(self, *words: object) -> None:
        del words


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on a free port for the time of the block."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
