"""Several worker processes behind one socket: kills, restarts and swaps under load, with nothing lost."""

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.predictions.log import read_log
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.traffic import set_traffic
from tidewheel.serving.workers import ask_to_reload

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

pytestmark = pytest.mark.slow

ROW = {"a": 2.0, "b": 0.5, "n": 3}


class Server:
    """`tidewheel serve` with two workers."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home = home
        command = [sys.executable, "-m", "tidewheel", "serve", "--home", str(home), "--port", "0", "--workers", "2"]
        environment = os.environ | {"TIDEWHEEL_SERVE_TIMEOUT": "5", "TIDEWHEEL_SERVE_VERSIONS": "any"}
        self.process = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line.startswith("predictions: http"), line
        self.port = int(line.removesuffix("/docs").rsplit(":", 1)[1])
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: len(self.pids()) == 2)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            self.lines.extend(stream)

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.get("/v2/health/ready"))["workers"]
        return found

    def pids(self) -> list[int]:
        """Workers that answer and will go on."""
        return [each["pid"] for each in self.workers() if each["ready"] and "leaving" not in each]

    def metric(self, name: str) -> float:
        lines = [line for line in self.get("/metrics").decode().splitlines() if not line.startswith("#")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


class Load:
    """Clients on keep-alive connections that ask until they are told to stop; what is closed between is reopened."""

    def __init__(self, server: Server, clients: int = 4) -> None:
        self.answered: dict[str, int] = {}  # request id -> version
        self.cut: list[str] = []  # requests whose connection ended before their answer
        self.refused: list[str] = []  # other answers than 200
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(client,)) for client in range(clients)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=20)
        number = 0
        while not self._stop.is_set():
            number += 1
            name = f"c{client}-{number}"
            fresh = " on a new connection" if connection.sock is None else ""
            try:
                connection.request("POST", "/predict/bikes", json.dumps({"rows": [ROW], "id": name}))
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.cut.append(f"{name}: {error!r}{fresh}")
                connection.close()
                continue
            if response.status == 200:
                self.answered[name] = json.loads(body)["version"]
            else:
                self.refused.append(f"{name}: {response.status} {body[:200]!r}")
        connection.close()


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def front() -> str:
    """The fast one; a test may ask for the other."""
    return "fast"


@pytest.fixture
def server(shop: Shop, front: str) -> Iterator[Server]:
    running = Server(shop.store.home, "--front", front)
    yield running
    running.process.terminate()
    running.process.wait(30)


@pytest.mark.parametrize("front", ["fast", "uvicorn"])
def test_workers_are_killed_restarted_rolled_and_swapped_under_load(shop: Shop, server: Server) -> None:
    """One server and one load for all of it: each part takes seconds to set up."""
    load = Load(server)
    wait_for(lambda: len(load.answered) > 50)

    for swap in range(8):  # all workers take a deployment up together
        wanted = 2 if swap % 2 == 0 else 1
        set_traffic(shop.store, "bikes", champion=wanted, by="test", reason="swap")
        wait_for(lambda version=wanted: list(load.answered.values())[-4:] == [version] * 4)  # type: ignore[misc]
    assert (load.cut, load.refused) == ([], [])

    before = server.pids()
    ask_to_reload(server.home, server.port)  # one after the other
    wait_for(lambda: not set(before) & set(server.pids()) and len(server.pids()) == 2)
    wait_for(lambda: not any(map(alive, before)))
    assert (load.cut, load.refused) == ([], [])

    victim = server.pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in server.pids() and len(server.pids()) == 2)
    assert server.metric("tidewheel_worker_restarts_total") == 1
    assert len(load.cut) <= 4  # at most what was under way
    load.end()
    assert load.refused == []

    logged = {record.id: record.version for record in read_log(log_folder(server.home, "bikes")).records}
    assert logged.items() >= load.answered.items()
    assert set(logged) - set(load.answered) <= {each.split(":")[0] for each in load.cut}
    # The one that was killed has not put its last second down; the rest is counted, whoever is asked.
    wait_for(lambda: server.metric("tidewheel_requests_total") >= len(load.answered) * 0.5)
    counted = [server.metric("tidewheel_requests_total") for _ in range(6)]
    assert counted == sorted(counted)
    assert counted[-1] <= len(logged)


def test_a_stop_drains_and_a_dead_parent_takes_its_workers_along(shop: Shop, server: Server) -> None:
    load = Load(server, clients=2)
    wait_for(lambda: len(load.answered) > 50)
    pids = server.pids()
    server.process.terminate()
    assert server.process.wait(30) == 0
    assert not any(map(alive, pids))
    load.end()
    assert not [each for each in load.cut if "new connection" not in each]
    logged = {record.id for record in read_log(log_folder(server.home, "bikes")).records}
    assert logged == set(load.answered)

    again = Server(shop.store.home)
    pids = again.pids()
    again.process.kill()
    wait_for(lambda: not any(map(alive, pids)))
    again.process.wait(10)


def test_a_version_that_is_not_deployed_is_loaded_when_it_is_asked_for(shop: Shop, server: Server) -> None:
    body = {"inputs": [{"name": name, "shape": [1], "datatype": "FP64", "data": [1]} for name in ROW]}
    found: list[int] = []

    def ask() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("POST", "/v2/models/bikes/versions/2/infer", json.dumps(body))
        response = connection.getresponse()
        found.append(response.status)
        version = json.loads(response.read()).get("model_version")
        connection.close()
        return bool(version == "2")

    wait_for(ask)
    assert set(found) <= {200, 503}


def test_a_worker_that_serves_onnx_loads_no_frames_and_no_database_toolkit(server: Server) -> None:
    """Libraries are seen in the maps of the process: what is mapped was loaded."""
    server.get("/metrics")
    for pid in server.pids():
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "onnxruntime" in maps
        loaded = [name for name in ("polars", "sklearn", "scipy", "sqlalchemy") if f"/{name}/" in maps]
        assert loaded == []
        resident = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]
        assert int(resident) < 120_000
