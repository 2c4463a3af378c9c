"""Steps with needs, in whole runs: tries after a death, limits, usage and signs of life in the journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tidewheel.errors import InvalidInput, StepFailed, StepTimeout
from tidewheel.lineage.store import Store
from tidewheel.pipelines.executors.process import ProcessExecutor
from tidewheel.pipelines.executors.seam import Executor, Site
from tidewheel.pipelines.executors.threads import ThreadsExecutor
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.runs import get_run, list_runs, shelf_of, start_run
from tidewheel.pipelines.step import step
from tidewheel.testing.executor_steps import alive


@step(retries=1, backoff=0)
def dies_once(mark: Path) -> int:
    """End the own process at the first try."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


@step(memory="300MiB")
def frugal() -> int:
    """Stay within what was asked for."""
    return len(bytearray(b"x" * 2**20))


@step(memory="150MiB")
def greedy() -> int:
    """Hold far more than was asked for."""
    held = bytearray(os.urandom(2**20)) * 400
    threading.Event().wait(600)
    return len(held)


@step(timeout=2)
def leaves_a_child(marker: Path) -> int:
    """Start something in a session of its own, and hang."""
    script = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", script, str(marker)], start_new_session=True)
    threading.Event().wait(600)
    return 1


@step
def works(stop: Path) -> int:
    """Compute until told to stop."""
    total = 0
    while not stop.exists():
        total += sum(range(20_000))
    return total


@step(cpus=10_000)
def colossal() -> int:
    """Ask for too much."""
    return 1


@pipeline
def deadly(mark: Path) -> int:
    """Die once."""
    return dies_once(mark)


@pipeline
def modest() -> int:
    """Ask for memory."""
    return frugal()


@pipeline
def gluttony() -> int:
    """Take more."""
    return greedy()


@pipeline
def hanging(marker: Path) -> int:
    """Hang."""
    return leaves_a_child(marker)


@pipeline
def labour(stop: Path) -> int:
    """Work."""
    return works(stop)


@pipeline
def hubris() -> int:
    """Ask for more than there is."""
    return colossal()


def test_a_step_whose_process_was_killed_is_tried_again_if_asked(store: Store, tmp_path: Path) -> None:
    run = start_run(store, deadly, {"mark": tmp_path / "mark"}, executor="process")
    assert (run.output, run.steps[0].attempt) == (7, 2)


def test_what_a_step_used_stands_in_the_journal(store: Store) -> None:
    step = get_run(store, start_run(store, modest).id).steps[0]
    assert step.usage is not None
    assert step.usage["peak_memory"] > 2**20
    assert step.usage["wall_seconds"] >= 0


def test_a_step_that_holds_more_than_it_asked_for_is_ended_and_told(store: Store) -> None:
    with pytest.raises(StepFailed, match=r"used \d+(\.\d)? MiB of memory, asked for 150 MiB(.|\n)*Ask for more"):
        start_run(store, gluttony)


def test_a_timeout_ends_what_the_step_started_in_another_session(store: Store, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    with pytest.raises(StepTimeout, match="2 s"):
        start_run(store, hanging, {"marker": marker})
    assert not alive(int(marker.read_text()))


def test_a_step_that_asks_for_more_than_there_is_is_refused_at_once(store: Store) -> None:
    with pytest.raises(InvalidInput, match="asks for 10000 cpus"):
        start_run(store, hubris)


@pytest.mark.parametrize("kind", [ProcessExecutor, ThreadsExecutor])
def test_another_process_sees_what_a_long_step_uses(
    store: Store, tmp_path: Path, kind: type[ProcessExecutor | ThreadsExecutor]
) -> None:
    stop = tmp_path / "stop"
    site = Site(shelf=shelf_of(store), attempts=tmp_path / "attempts", options={"beat_seconds": 0.05})
    executor: Executor = kind(site)
    thread = threading.Thread(target=start_run, args=(store, labour, {"stop": stop}), kwargs={"executor": executor})
    thread.start()
    try:
        seen = None
        while not seen or not seen["cpu_seconds"]:
            runs = list_runs(store)
            steps = get_run(store, runs[0].id).steps if runs else ()
            seen = steps[0].usage if steps else None
        assert steps[0].ended is None
    finally:
        stop.touch()
        thread.join()
        executor.close()
