"""The parent of the workers, tried on workers that only speak its language: laggards, hopeless and silent ones."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tidewheel.errors import NotFound, NotReady
from tidewheel.serving import workers as parents
from tidewheel.serving.limits import Limits
from tidewheel.serving.tallies import states_of
from tidewheel.serving.workers import Workers, ask_to_reload, folder_of

FAKE = """
import json, os, socket, sys, threading, time
line = socket.socket(fileno=int(sys.argv[-1]))
stream = line.makefile("rw")
order = json.loads(stream.readline())
def say(**report):
    line.sendall(json.dumps(report).encode() + b"\\n")
plan = json.loads(order["plan"])
mine = plan.get(order["name"], {})
if mine.get("dies"):
    sys.exit(3)
say(kind="ready")
if mine.get("reason"):
    say(kind="refused", model="bikes", seq=2, reason=mine["reason"])
def prepare():
    while mine.get("after") and not os.path.exists(mine["after"]):
        time.sleep(0.01)
    if not mine.get("reason"):
        say(kind="prepared", model="bikes", seq=2)
threading.Thread(target=prepare, daemon=True).start()
def beat():
    while not mine.get("silent"):
        say(kind="beat")
        time.sleep(0.05)
threading.Thread(target=beat, daemon=True).start()
for text in stream:
    with open(plan["heard"], "a") as file:
        file.write(f"{order['name']} {order['number']} {text}")
"""


class Running:
    """A parent in a thread."""

    def __init__(self, folder: Path, plan: Mapping[str, object], **limits: float) -> None:
        self.heard = folder / "heard"
        self.changes: list[str] = []
        self.ready = threading.Event()
        self.error: NotReady | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.folder = folder_of(folder, self.port)
        self.parent = Workers(
            (sys.executable, "-c", FAKE),
            self._socket,
            2,
            folder=self.folder,
            plan=json.dumps({**plan, "heard": str(self.heard)}),
            limits=Limits(**limits),  # type: ignore[arg-type]
            on_ready=self.ready.set,
            on_change=self.changes.append,
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.parent.run()
        except NotReady as error:
            self.error = error

    def told(self) -> list[str]:
        return self.heard.read_text().splitlines() if self.heard.exists() else []

    def pids(self) -> list[int]:
        return [int(str(each["pid"])) for each in states_of(self.folder)]

    def close(self) -> None:
        self.parent.stop()
        self.thread.join(20)
        self._socket.close()
        assert not self.thread.is_alive()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Running]]:
    """Parents that are ended with the test; a thread may not handle signals."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    found: list[Running] = []
    yield found
    for each in found:
        each.close()


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def test_all_are_told_to_flip_once_all_are_prepared(tmp_path: Path, opened: list[Running]) -> None:
    opened.append(running := Running(tmp_path, {}))
    wait_for(lambda: len(running.told()) == 2)
    assert {line.split(" ", 2)[0] for line in running.told()} == {"w0", "w1"}
    assert all(line.endswith('{"flips":{"bikes":2}}') for line in running.told())


def test_a_worker_that_cannot_prepare_blocks_for_a_while_and_says_why(
    tmp_path: Path, opened: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "PREPARE_SECONDS", 1.0)
    other = tmp_path / "the other has refused"
    plan = {"w0": {"after": str(other)}, "w1": {"reason": "no memory"}}
    opened.append(running := Running(tmp_path, plan))
    wait_for(lambda: any("refused" in each for each in states_of(running.folder)))
    assert {"bikes": "no memory"} in [each.get("refused") for each in states_of(running.folder)]
    begun = time.monotonic()
    other.touch()
    wait_for(lambda: len(running.told()) == 2)
    assert time.monotonic() - begun >= 1.0
    assert running.changes == ["worker w1 stays behind deployment 2 of bikes: no memory"]


def test_what_nobody_could_load_is_never_taken_up(
    tmp_path: Path, opened: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "PREPARE_SECONDS", 0.0)
    opened.append(running := Running(tmp_path, {"w0": {"reason": "rotten"}, "w1": {"reason": "rotten"}}))
    wait_for(lambda: sum("refused" in each for each in states_of(running.folder)) == 2)
    wait_for(running.ready.is_set)
    running.parent.reload()
    wait_for(lambda: running.parent._numbers == 4)
    assert running.told() == []


def test_a_killed_worker_is_started_again_and_hears_what_is_live(tmp_path: Path, opened: list[Running]) -> None:
    opened.append(running := Running(tmp_path, {}))
    wait_for(lambda: len(running.told()) == 2)
    victim = running.pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(running.pids()) == 2 and victim not in running.pids())
    assert "ended with -9 and is started again" in running.changes[0]


def test_workers_that_never_come_up_are_given_up(tmp_path: Path, opened: list[Running]) -> None:
    opened.append(running := Running(tmp_path, {"w0": {"dies": True}, "w1": {"dies": True}}))
    running.thread.join(20)
    assert running.error is not None
    assert "ended with 3" in running.error.what


def test_a_silent_worker_is_killed(tmp_path: Path, opened: list[Running], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parents, "MARGIN_SECONDS", 0.0)
    opened.append(running := Running(tmp_path, {"w1": {"silent": True}}, timeout_seconds=1.0))
    wait_for(lambda: "worker w1 says nothing any more and is killed" in running.changes)


def test_a_server_that_does_not_run_cannot_be_reloaded(tmp_path: Path, opened: list[Running]) -> None:
    opened.append(running := Running(tmp_path, {}))
    wait_for(running.ready.is_set)
    with pytest.raises(NotFound, match=str(running.port)):
        ask_to_reload(tmp_path, 1)
    running.close()
    with pytest.raises(NotFound):
        ask_to_reload(tmp_path, running.port)
