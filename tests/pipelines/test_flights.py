"""Identical calls in several processes: one executes, the others wait; who dies or fails is replaced, nobody hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidewheel.lineage.store import Store
from tidewheel.pipelines.flights import announce, find_flight, land
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.runs import get_run, list_runs, start_run
from tidewheel.pipelines.step import step

RUNNER = Path(__file__).with_name("flight_runner.py")
WAITS = "waits for the same call in run"


def url_of(store: Store) -> str:
    return store.database.engine.url.render_as_string(hide_password=False)


class Runner:
    """One run in a process of its own."""

    def __init__(self, store: Store, name: str, book: Path, executor: str) -> None:
        url = url_of(store)
        command = [sys.executable, str(RUNNER), url, str(store.home), name, executor, str(book)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.lines: list[str] = []

    def until(self, text: str) -> None:
        """Read what it says until it says something."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if text in line:
                return
        pytest.fail(f"{text!r} was never said: {self.lines}")

    def end(self) -> list[str]:
        """Wait for its end, and return the words of its last line."""
        assert self.process.stdout is not None
        self.lines += [line.strip() for line in self.process.stdout]
        assert self.process.wait(60) == 0, self.lines
        return self.lines[-1].split()

    def kill(self) -> None:
        """End it and its children as the kernel does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


@pytest.fixture
def runner(any_store: Store, book: Path) -> Iterator[Callable[..., Runner]]:
    """Starts runs on one store; whatever is left is ended."""
    started: list[Runner] = []

    def start(name: str = "one", executor: str = "inline") -> Runner:
        started.append(Runner(any_store, name, book, executor))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.kill()
        if each.process.stdout is not None:
            each.process.stdout.close()


def executed(book: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in book.read_text().splitlines())


def open_gate(book: Path) -> None:
    Path(f"{book}.open").touch()


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_the_second_of_two_processes_waits_for_the_first(
    runner: Callable[..., Runner], book: Path, executor: str
) -> None:
    first = runner(executor=executor)
    first.until("slow RUNNING")
    second = runner(executor=executor)
    second.until(WAITS)
    open_gate(book)
    assert first.end() == ["output", "2", "COMMITTED"]
    assert second.end() == ["output", "2", "CACHED"]
    assert executed(book) == {"slow-1": 1}


def test_who_waits_takes_over_when_the_first_is_killed(
    runner: Callable[..., Runner], book: Path, any_store: Store
) -> None:
    first = runner()
    first.until("slow RUNNING")
    others = [runner(), runner()]
    for other in others:
        other.until(WAITS)
    first.kill()
    while executed(book)["slow-1"] < 2:
        assert any(other.process.poll() is None for other in others)
    open_gate(book)
    assert sorted(other.end()[-1] for other in others) == ["CACHED", "COMMITTED"]
    assert executed(book) == {"slow-1": 2}
    assert sorted(run.state for run in list_runs(any_store)) == ["LOST", "SUCCEEDED", "SUCCEEDED"]


def test_who_waits_executes_when_the_first_fails(runner: Callable[..., Runner], book: Path) -> None:
    first = runner("failing")
    first.until("fails RUNNING")
    second = runner("failing")
    second.until(WAITS)
    open_gate(book)
    first.until("FAILED")
    assert second.end() == ["output", "1", "COMMITTED"]
    assert executed(book) == {"fails-1": 2}


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_two_runs_that_want_each_others_keys_both_end(runner: Callable[..., Runner], book: Path, executor: str) -> None:
    runs = [runner("forth", executor), runner("back", executor)]
    for each in runs:
        each.until("RUNNING")
    open_gate(book)
    assert runs[0].end()[:3] == ["output", "[2,", "3]"]
    assert runs[1].end()[:3] == ["output", "[3,", "2]"]
    assert sum(executed(book).values()) <= 3  # both may begin their first at once; no key is in two flights


def test_a_run_does_not_wait_for_itself(runner: Callable[..., Runner], book: Path, any_store: Store) -> None:
    open_gate(book)
    assert runner("both").end() == ["output", "[2,", "2]", "COMMITTED", "CACHED"]
    first = runner()
    assert first.end()[-1] == "CACHED"
    with any_store.database.reading() as tx:
        assert tx.rows("SELECT * FROM step_flight") == []


def test_a_killed_run_is_resumed_past_its_own_flight(
    runner: Callable[..., Runner], book: Path, any_store: Store
) -> None:
    first = runner()
    first.until("slow RUNNING")
    first.kill()
    run = list_runs(any_store)[0]
    open_gate(book)
    command = [sys.executable, str(RUNNER), url_of(any_store), str(any_store.home), "one", "inline", str(book)]
    done = subprocess.run([*command, run.id], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "output 2 COMMITTED"
    assert get_run(any_store, run.id).steps[0].attempt == 2


def test_a_flight_of_a_run_that_has_ended_counts_for_nothing(any_store: Store) -> None:
    @step
    def plain(x: int) -> int:
        return x

    @pipeline
    def flow() -> int:
        return plain(1)

    run = start_run(any_store, flow)
    with any_store.database.transaction() as tx:
        assert announce(tx, "k" * 64, run.steps[0].id, run.id) is None
        assert find_flight(tx, "k" * 64, "other") is None
        assert announce(tx, "k" * 64, "e" * 36, "o" * 36) is None
        land(tx, "k" * 64, "o" * 36)


def test_runs_that_a_step_starts_wait_for_nobody(store: Store, book: Path) -> None:
    """A step that starts a run which needs that very step: with waiting it would hang for good."""

    @step
    def leaf(x: int) -> int:
        return x

    @pipeline
    def inner(depth: int) -> int:
        return outer_step(depth)

    @step
    def outer_step(depth: int) -> int:
        if depth and book.read_text().count("x") < 2:
            book.write_text(book.read_text() + "x")
            return int(start_run(store, inner, {"depth": depth}).output)
        return leaf.__wrapped__(depth)

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(start_run(store, inner, {"depth": 1}).output), daemon=True)
    thread.start()
    thread.join(60)
    assert found == [1]
