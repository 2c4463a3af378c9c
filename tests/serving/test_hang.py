"""A scoring call that never returns: those who wait are answered, the process ends. And TLS, on both fronts."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tidewheel.errors import InvalidInput
from tidewheel.serving.manner import Manner
from tidewheel.serving.watchdog import HUNG

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

pytestmark = pytest.mark.slow

ROW = {"a": 2.0, "b": 0.5, "n": 3}
CERTIFICATE, KEY = (Path(__file__).parent / "tls" / name for name in ("cert.pem", "key.pem"))
CHILD = """
import json, sys, time
from pathlib import Path
from tidewheel.app import open_store
from tidewheel.settings import Settings
from tidewheel.serving.arms import Arm
from tidewheel.serving.front import serve
from tidewheel.serving.limits import Limits
from tidewheel.serving.manner import Manner

score = Arm.score
def hang(self, rows, request_id):
    if any(value == -777 for row in rows for value in row):
        time.sleep(600)  # lets go of the interpreter's lock, as ONNX Runtime does
    return score(self, rows, request_id)
Arm.score = hang
words = json.loads(sys.argv[2])
manner = Manner(limits=Limits(timeout_seconds=0.5), **words)
serve(open_store(Settings(home=Path(sys.argv[1]))), port=0, manner=manner, on_ready=lambda url: print(url, flush=True))
"""


class Child:
    """A server process."""

    def __init__(self, home: Path, **words: str) -> None:
        command = [sys.executable, "-c", CHILD, str(home), json.dumps(words)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.address = ("127.0.0.1", int(self.url.rsplit(":", 1)[1]))

    def open(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)


@pytest.fixture(params=["fast", "uvicorn"])
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def child(shop: Shop, front: str) -> Iterator[Child]:
    running = Child(shop.store.home, front=front)
    yield running
    running.end()


def request(row: dict[str, float]) -> bytes:
    body = json.dumps(row).encode()
    return b"POST /predict/bikes HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def answered(line: socket.socket) -> bytes:
    """Return one whole answer."""
    found = b""
    while not (found.endswith(b"}") and b"\r\n\r\n" in found):  # all answers here are JSON objects
        piece = line.recv(10_000)
        assert piece, found
        found += piece
    return found


def test_those_who_wait_for_a_call_that_hangs_are_answered_and_the_process_ends(child: Child) -> None:
    with closing(child.open()) as idle, closing(child.open()) as waiting:
        waiting.sendall(request(ROW))
        assert answered(waiting).startswith(b"HTTP/1.1 200")
        waiting.sendall(request(ROW | {"a": -777}))
        answer = answered(waiting)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"connection: close" in answer
        assert b"did not answer within 0.5 seconds" in answer
        assert child.process.wait(20) == HUNG
        assert idle.recv(10_000) == b""


def test_a_server_that_was_stopped_for_a_while_has_not_hung(child: Child) -> None:
    os.kill(child.process.pid, 19)
    time.sleep(1.5)  # longer than the limit: only a real clock can show it
    os.kill(child.process.pid, 18)
    with closing(child.open()) as line:
        for _ in range(3):
            line.sendall(request(ROW))
            assert answered(line).startswith(b"HTTP/1.1 200")
            time.sleep(0.3)
    assert child.process.poll() is None


def test_https_is_spoken_with_a_certificate(shop: Shop, front: str) -> None:
    running = Child(shop.store.home, front=front, tls_cert=str(CERTIFICATE), tls_key=str(KEY))
    try:
        assert running.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
        with trusting.wrap_socket(running.open(), server_hostname="localhost") as line:
            for _ in range(2):
                line.sendall(request(ROW))
                assert answered(line).startswith(b"HTTP/1.1 200")
        with closing(running.open()) as plain:  # not an answer in the clear, and no end of the server
            plain.sendall(request(ROW))
            assert b"200" not in plain.recv(10_000)
        with trusting.wrap_socket(running.open(), server_hostname="localhost") as line:
            line.sendall(request(ROW))
            assert answered(line).startswith(b"HTTP/1.1 200")
    finally:
        running.end()


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needs a certificate and its key"):
        Manner(tls_cert=str(CERTIFICATE))
    with pytest.raises(InvalidInput, match="cannot be used"):
        Manner(tls_cert=str(CERTIFICATE), tls_key=str(tmp_path / "nothing.pem")).tls()
    with pytest.raises(InvalidInput, match="no front 'slow'"):
        Manner(front="slow")
