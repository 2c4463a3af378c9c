"""Real server processes over real HTTP: swaps under load, a drain, a kill, large bodies."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.predictions.log import read_log
from tidewheel.predictions.reader import LogReader
from tidewheel.predictions.records import Prediction
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.traffic import set_traffic

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

pytestmark = pytest.mark.slow

ROW = {"a": 2.0, "b": 0.5, "n": 3}
CHILD = """
import sys
from pathlib import Path
from tidewheel.app import open_store
from tidewheel.settings import Settings
from tidewheel.serving.front import serve

store = open_store(Settings(home=Path(sys.argv[1])))
serve(store, port=0, on_ready=lambda url: print(url, flush=True))
print("drained", flush=True)
store.close()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Server:
    """A child process that serves a store."""

    def __init__(self, home: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", CHILD, home], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        url = self.process.stdout.readline().strip()
        self.port = int(url.rsplit(":", 1)[1])

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """Send one request on a connection of its own."""
        with closing(self.connect()) as connection:
            connection.request(method, path, body, **options)
            response = connection.getresponse()
            return Answer(status=response.status, headers=dict(response.getheaders()), body=response.read())

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, wait for the end, return the exit code and what was printed last."""
        os.kill(self.process.pid, number)
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out


class Load:
    """Clients on keep-alive connections that ask again and again until they are told to stop, or refused."""

    def __init__(self, server: Server, clients: int = 3) -> None:
        self.answered: dict[str, int] = {}  # request id -> version
        self.failed: list[str] = []
        self.refused = 0  # new connections that the server did not take any more
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (len(self.answered), self.failed[:3])
            time.sleep(0.005)

    def end(self) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)

    def _run(self, client: int) -> None:
        connection: http.client.HTTPConnection | None = None
        number = 0
        while not self._stop.is_set():
            number += 1
            name = f"c{client}-{number}"
            if connection is None:
                connection = self._server.connect()
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    self.refused += 1
                    connection.close()
                    return
            try:
                connection.request("POST", "/predict/bikes", json.dumps({"rows": [ROW], "id": name}))
                response = connection.getresponse()
                content = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{name}: {error!r}")
                connection.close()
                return
            if response.status == 200:
                self.answered[name] = content["version"]
            else:
                self.failed.append(f"{name}: {content}")
            if response.getheader("connection") == "close":
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


@pytest.fixture
def server(shop: Shop) -> Iterator[Server]:
    running = Server(str(shop.store.home))
    yield running
    running.process.kill()
    running.process.communicate(timeout=30)


def test_twenty_swaps_under_load_fail_no_request(shop: Shop, server: Server) -> None:
    load = Load(server)
    for swap in range(20):
        wanted = 2 if swap % 2 == 0 else 1
        set_traffic(shop.store, "bikes", champion=wanted, by="test", reason="swap")
        load.wait_for(lambda version=wanted: list(load.answered.values())[-1:] == [version])  # type: ignore[misc]
    load.end()
    assert load.failed == []
    versions = {record.id: record.version for record in read_log(log_folder(shop.store.home, "bikes")).records}
    assert versions == load.answered
    assert server.stop()[0] == 0


def test_a_stop_lets_every_request_end(shop: Shop, server: Server) -> None:
    load = Load(server)
    load.wait_for(lambda: len(load.answered) > 200)
    code, said = server.stop()
    load.join()
    assert (code, said.strip()) == (0, "drained")
    assert load.failed == []
    assert load.refused == 3
    logged = [record.id for record in read_log(log_folder(shop.store.home, "bikes")).records]
    assert sorted(logged) == sorted(load.answered)


@pytest.mark.parametrize("after", [1, 50, 300, 700])
def test_a_kill_loses_nothing_that_was_answered(shop: Shop, server: Server, after: int) -> None:
    load = Load(server)
    load.wait_for(lambda: len(load.answered) >= after)
    server.stop(signal.SIGKILL)
    load.join()
    batch = LogReader(log_folder(shop.store.home, "bikes"), Prediction).read()
    logged = {record.id for record in batch.records}
    assert set(load.answered) <= logged
    assert len(logged) <= len(load.answered) + 3  # at most what was under way
    assert batch.damaged == 0
    shop.ask({"rows": [ROW], "id": "afterwards"})  # the next server goes on in the same log
    assert shop.log()[-1].id == "afterwards"


def test_a_damaged_champion_is_refused_while_the_old_one_answers(shop: Shop, server: Server) -> None:
    load = Load(server)
    load.wait_for(lambda: len(load.answered) > 20)
    path = shop.model_blob(2)
    held = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    set_traffic(shop.store, "bikes", champion=2, by="test", reason="a rotten one")
    load.wait_for(lambda: "no longer match" in server.send("GET", "/v2/health/ready").body.decode())
    (state,) = json.loads(server.send("GET", "/v2/health/ready").body)["models"]
    assert (state["ready"], state["version"]) == (True, 1)
    refused = [
        line for line in server.send("GET", "/metrics").body.decode().splitlines() if "deployment_refused{" in line
    ]
    assert [line.rsplit(" ", 1)[1] for line in refused] == ["1"]
    path.write_bytes(held)
    load.wait_for(lambda: list(load.answered.values())[-1:] == [2])  # it is tried again by itself
    load.end()
    assert load.failed == []


def test_a_large_body_is_refused_and_the_server_lives(server: Server) -> None:
    whole = server.send("POST", "/predict/bikes", b"[" * 10_000_000)
    assert whole.status == 413
    assert "8,388,608 bytes" in json.loads(whole.body)["error"]
    pieces = iter([b"x" * 100_000] * 150)
    chunked = server.send(
        "POST", "/predict/bikes", pieces, encode_chunked=True, headers={"transfer-encoding": "chunked"}
    )
    assert chunked.status == 413
    assert server.send("GET", "/v2/health/ready").status == 200


def test_what_is_no_http_is_refused_and_the_server_lives(server: Server) -> None:
    import socket

    for sent in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"POST /predict/bikes HTTP/1.1\r\nhost\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.sendall(sent)
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
    assert server.send("GET", "/v2/health/live").status == 200


def test_answers_come_over_http_as_they_come_from_the_engine(shop: Shop, server: Server) -> None:
    content: dict[str, Any] = {"rows": [ROW], "id": "same"}
    headers = {"X-Request-Id": "trace", "X-Unit-Id": "u"}
    answer = server.send("POST", "/predict/bikes", json.dumps(content), headers=headers)
    assert (answer.headers["x-request-id"], answer.headers["content-type"]) == ("trace", "application/json")
    assert json.loads(answer.body) == shop.ask(content)
    assert server.send("GET", "/predict/bikes").status == 405
    assert server.send("POST", "/predict/b%69kse", "{}").status == 404
    assert server.send("GET", "/v2/models/b%69kes/ready").status == 200
    assert b"tidewheel_requests_total" in server.send("GET", "/metrics").body
