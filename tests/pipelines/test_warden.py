"""The warden and its workers: what happens when one of them dies, and who is used again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.pipelines.executors.family import children, descendants
from tidewheel.pipelines.executors.process import ProcessExecutor
from tidewheel.pipelines.executors.seam import Site
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf
from tidewheel.testing import executor_steps as steps
from tidewheel.testing.executors import awaited, ended, failure_of, outcome_of, pids_in, task_of, values_of

pytestmark = pytest.mark.slow


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(blobs=FolderBlobs(tmp_path / "blobs"), files=tmp_path / "files")


@pytest.fixture
def executor(shelf: Shelf, tmp_path: Path) -> Iterator[ProcessExecutor]:
    opened = ProcessExecutor(Site(shelf=shelf, attempts=tmp_path / "attempts"))
    yield opened
    opened.close()


def _warden() -> int:
    """Return the process between this one and its workers."""
    (found,) = [
        pid for pid in children(os.getpid()) if b"executors.warden" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found


def _worker_after(executor: ProcessExecutor, shelf: Shelf, tmp_path: Path) -> int:
    """Return which worker executes a small task now."""
    (pid,) = values_of(
        outcome_of(executor, task_of(steps.take_turns, {"book": str(tmp_path / "book")}, tmp_path)), shelf
    )
    return int(pid)


def test_a_warden_that_is_killed_takes_its_workers_along_and_another_one_serves(
    executor: ProcessExecutor, shelf: Shelf, tmp_path: Path
) -> None:
    marker = tmp_path / "family"
    task = task_of(steps.found_a_family, {"marker": str(marker)}, tmp_path)
    executor.submit(task)
    pids_in(marker, 2, executor)
    os.kill(_warden(), signal.SIGKILL)
    failure = failure_of(awaited(executor, task))
    assert (failure.kind, failure.message) == ("killed", "its process died with the warden of all workers")
    assert ended(marker, count=2)
    assert values_of(outcome_of(executor, task_of(steps.double, {"x": 4}, tmp_path)), shelf) == [8]


def test_a_warm_worker_is_used_again_and_a_dead_one_replaced(
    executor: ProcessExecutor, shelf: Shelf, tmp_path: Path
) -> None:
    first = _worker_after(executor, shelf, tmp_path)
    assert _worker_after(executor, shelf, tmp_path) == first
    os.kill(first, signal.SIGKILL)
    while first in descendants(_warden()):
        time.sleep(0.01)
    assert _worker_after(executor, shelf, tmp_path) != first


def test_a_worker_that_still_holds_much_gets_no_task_with_a_limit(
    executor: ProcessExecutor, shelf: Shelf, tmp_path: Path
) -> None:
    first = _worker_after(executor, shelf, tmp_path)
    tight: Step[..., int] = Step(steps.take_turns.__wrapped__, replace(steps.take_turns.options, memory=60 * 2**20))
    (second,) = values_of(outcome_of(executor, task_of(tight, {"book": str(tmp_path / "book")}, tmp_path)), shelf)
    assert second == first  # it holds little
    tighter: Step[..., int] = Step(steps.take_turns.__wrapped__, replace(tight.options, memory=20 * 2**20))
    (third,) = values_of(outcome_of(executor, task_of(tighter, {"book": str(tmp_path / "book")}, tmp_path)), shelf)
    assert third != first


def test_closing_ends_the_warden_and_its_workers(shelf: Shelf, tmp_path: Path) -> None:
    executor = ProcessExecutor(Site(shelf=shelf, attempts=tmp_path / "attempts"))
    worker = _worker_after(executor, shelf, tmp_path)
    warden = _warden()
    executor.close()
    assert not Path(f"/proc/{warden}").exists()
    deadline = time.monotonic() + 60
    while steps.alive(worker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not steps.alive(worker)
