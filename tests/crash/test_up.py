"""`tidewheel up` for real: its processes are killed under traffic, and nothing is lost, doubled or left behind."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tidewheel.app import open_store
from tidewheel.data import datasets
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.loop.status import status
from tidewheel.pipelines.runs import list_runs
from tidewheel.predictions.reader import LogReader
from tidewheel.predictions.records import Prediction
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.versions import list_versions
from tidewheel.servers import listen_address
from tidewheel.settings import load_settings

HISTORY = 200
CALL_SECONDS = 0.01  # between two requests, so that the caller leaves the processor to those it calls
PROJECT = """
import os, signal
from pathlib import Path
import polars as pl
from tidewheel import Loop, Model, pipeline, step, triggers

BOMB = Path(__file__).with_name("bomb")

@step(cache=False)
def fit(rows: pl.DataFrame) -> Model:
    from sklearn.linear_model import LogisticRegression
    if BOMB.exists():
        BOMB.unlink()
        os.kill(os.getpid(), signal.SIGKILL)  # the conductor, in the midst of a retraining
    x = rows.select("a", "b")
    return Model(LogisticRegression().fit(x, rows["y"]), example=x.head(20))

@pipeline
def small(rows: pl.DataFrame) -> Model:
    return fit(rows)

loop = Loop(small, model="small", data="points", label="y", on=[triggers.new_data(rows=60)], collect_rows=20)
"""


@dataclass
class Up:
    """A running `tidewheel up` and what it says."""

    folder: Path  # project and home
    port: int  # of the prediction server
    process: subprocess.Popen[str] = field(init=False)
    said: list[str] = field(default_factory=list)
    _lines: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    def start(self) -> None:
        self.said.clear()
        self._lines = queue.SimpleQueue()
        self.process = subprocess.Popen(
            self.command(self.port), cwd=self.folder, stdout=subprocess.PIPE, text=True, env=self.environment()
        )
        threading.Thread(target=self._listen, args=(self.process, self._lines), daemon=True).start()

    def command(self, port: int) -> list[str]:
        words = ("up", "small.py:loop", "--home", "home", "--port", str(port), "--web-port", "0")
        return [sys.executable, "-m", "tidewheel", *words]

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "TIDEWHEEL_TICK_SECONDS": "0.05",
            "OMP_NUM_THREADS": "1",
            "POLARS_MAX_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def _listen(self, process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
        with process.stdout or nullcontext(()) as said:
            for line in said:
                lines.put(line.strip())

    def wait_to_say(self, wanted: str) -> None:
        """Wait until it says a line that was not waited for before."""
        while not self.said or self.said[-1] != wanted:
            try:
                self.said.append(self._lines.get(timeout=60))
            except queue.Empty:
                pytest.fail(f"never said: {wanted}\n{self.said}\n{self.logs()}")

    def children(self) -> dict[str, int]:
        """Return the process ids of the services."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            found[words[3]] = int(pid)
        return {"conductor": found["loop"], "serving": found["serve"], "web": found["web"]}

    def logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()}" for path in (self.folder / "home" / "logs").glob("*.log"))

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@dataclass
class Caller:
    """Asks steadily and brings the truth of every answer; a request without an answer is asked anew."""

    up: Up
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))
    answered: dict[str, int] = field(default_factory=dict)  # request id -> version that answered
    labelled: dict[str, float] = field(default_factory=dict)  # request id -> its value of `a`
    unanswered: int = 0
    _number: int = 0

    def wait_for_the_first_model(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection("127.0.0.1", self.up.port, timeout=30)
            with closing(connection), suppress(OSError):
                connection.request("GET", "/v2/models/small/ready")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.05)
        pytest.fail(f"no model went live\n{self.up.logs()}")

    def ask(self) -> int:
        """Send one row until it is answered, then its label until it is accepted; return the version."""
        row = dict(zip("ab", self.random.normal(size=2).tolist(), strict=True))
        version = None
        while version is None:
            self._number += 1
            name = f"q{self._number}"
            answer = self._post("/predict/small", {"id": name, "rows": [row]})
            version = None if answer is None else int(answer["version"])
        self.answered[name] = version
        label = {"outcomes": [{"id": name, "label": int(row["a"] + row["b"] > 0)}]}
        while self._post("/outcomes", label) is None:
            pass
        self.labelled[name] = row["a"]
        time.sleep(CALL_SECONDS)
        return version

    def until(self, done: Callable[[int], bool]) -> None:
        deadline = time.monotonic() + 90
        while not done(self.ask()):
            if time.monotonic() > deadline:
                pytest.fail(f"what was waited for did not happen\n{self.up.logs()}")

    def _post(self, path: str, content: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.up.port, timeout=30)
        try:
            connection.request("POST", path, json.dumps(content), {"content-type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self.unanswered += 1
            time.sleep(0.05)
            return None
        finally:
            connection.close()
        assert response.status in (200, 202), body  # a server that accepts connections has loaded its models
        return json.loads(body)


def harvest(rows: int) -> pl.DataFrame:
    random = np.random.default_rng(0)
    a, b = random.normal(size=rows), random.normal(size=rows)
    good = (a + b > 0) ^ (random.random(rows) < 0.05)
    return pl.DataFrame({"a": a, "b": b, "y": good.astype(int)})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The store of the project, with its history."""
    settings = replace(load_settings(tmp_path), home=tmp_path / "home", database_url="", blob_url="")
    opened = open_store(settings)
    datasets.register(opened, "points", harvest(HISTORY), label="y")
    yield opened
    opened.close()


@pytest.fixture
def up(tmp_path: Path, store: Store) -> Iterator[Up]:
    """A running `up` whose first model answers soon."""
    (tmp_path / "small.py").write_text(PROJECT)
    running = Up(folder=tmp_path, port=listen_address("127.0.0.1", 0).port)
    running.start()
    yield running
    if running.process.poll() is None:
        running.end()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_killed_children_come_back_and_nothing_is_lost_or_doubled(up: Up, store: Store) -> None:
    caller = Caller(up)
    caller.wait_for_the_first_model()

    (up.folder / "bomb").touch()
    caller.until(lambda version: version >= 2)  # the retraining that killed its conductor is finished by the next one
    assert caller.unanswered == 0
    up.wait_to_say("conductor died with -9")
    up.wait_to_say("conductor restarted")

    before = len(caller.answered)
    os.kill(up.children()["serving"], signal.SIGKILL)
    latest = caller.ask()
    caller.until(lambda version: version > latest)
    up.wait_to_say("serving died with -9")
    up.wait_to_say("serving restarted")
    assert len(caller.answered) > before
    assert caller.unanswered > 0

    os.kill(up.children()["conductor"], signal.SIGKILL)
    settled, latest = caller.unanswered, caller.ask()
    caller.until(lambda version: version > latest)
    assert caller.unanswered == settled
    until_looked_at(store, len(caller.labelled))
    assert up.end() == 0, up.logs()
    check_predictions(store, caller)
    check_rows(store, caller)
    check_retrainings(store)


def until_looked_at(store: Store, labelled: int) -> None:
    deadline = time.monotonic() + 60
    while (found := status(store, "small")[0]).labelled < labelled or found.busy:
        if time.monotonic() > deadline:
            pytest.fail(f"{found.labelled} of {labelled} labels were looked at: {found.doing}")
        time.sleep(0.05)


def check_predictions(store: Store, caller: Caller) -> None:
    """Every answer stands in the log once, as it was given."""
    batch = LogReader(log_folder(store.home, "small"), Prediction).read()
    logged = [(record.id, record.version) for record in batch.records if record.status == 200]
    assert batch.damaged == 0
    assert len(logged) == len(set(logged))
    assert set(caller.answered.items()) <= set(logged)
    assert len(logged) <= len(caller.answered) + 1  # at most the one that was under way at the kill


def check_rows(store: Store, caller: Caller) -> None:
    """Every label was looked at, and every row kept once, in its order."""
    assert status(store, "small")[0].labelled == len(caller.labelled)
    kept = datasets.read(store, "points").slice(HISTORY)["a"].to_list()
    assert kept == list(caller.labelled.values())[: len(kept)]
    assert len(caller.labelled) - len(kept) < 20


def check_retrainings(store: Store) -> None:
    """Each cause has one retraining, each version one, and no run is left over."""
    with store.database.reading() as tx:
        fired = [event.body["key"] for event in list_events(tx, type_prefix="trigger.fired", limit=1_000)]
        failed = [event for event in list_events(tx, type_prefix="run.failed", limit=1_000) if event.by == "loop"]
    runs = list_runs(store, limit=1_000)
    versions = list_versions(store, "small")
    assert failed == []
    assert len(fired) == len(set(fired)) == len(versions) == len({one.facets["cause"] for one in versions})
    assert {str(run.state) for run in runs} == {"SUCCEEDED"}
    assert sorted((run.cause["key"], run.cause["part"]) for run in runs) == sorted(
        (key, part) for key in fired for part in ("candidate", "refit")
    )


@pytest.mark.slow
@pytest.mark.parametrize("taken", ["--port", "--web-port"])
def test_an_up_whose_port_is_taken_is_refused_before_anything_starts(tmp_path: Path, taken: str) -> None:
    (tmp_path / "small.py").write_text(PROJECT)
    ports = {"--port": "0", "--web-port": "0"}
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports[taken] = str(other.getsockname()[1])
        words = [word for item in ports.items() for word in item]
        command = [sys.executable, "-m", "tidewheel", "up", "small.py:loop", "--home", "home", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: Port {ports[taken]} on 127.0.0.1 is taken")
    assert "--web-port" in done.stderr


@pytest.mark.slow
def test_a_second_up_is_refused_and_a_killed_one_leaves_room_for_the_next(up: Up, store: Store) -> None:
    caller = Caller(up)
    caller.wait_for_the_first_model()
    second = subprocess.run(
        up.command(0), cwd=up.folder, capture_output=True, text=True, env=up.environment(), check=False
    )
    assert second.returncode == 1
    assert f"already runs on {up.folder / 'home'} (process {up.process.pid})" in second.stderr
    assert "--home" in second.stderr
    assert "Traceback" not in second.stderr
    caller.ask()
    assert caller.unanswered == 0

    children = up.children()
    up.process.kill()
    up.process.wait(30)
    up.start()  # at once, while the orphans are still letting go
    up.wait_to_say("serving started")
    caller.until(lambda version: version >= 1)
    until_looked_at(store, len(caller.labelled))
    assert not any(map(alive, children.values()))
    assert up.end() == 0
    check_predictions(store, caller)
    check_rows(store, caller)
    check_retrainings(store)
