"""The promises of an executor, as tests that any backend can inherit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import new_id
from tidewheel.errors import StorageUnavailable
from tidewheel.fingerprint.code import code_digest
from tidewheel.pipelines.active import StepContext, step_context
from tidewheel.pipelines.executors.seam import Executor, Held, Outcome, Task
from tidewheel.pipelines.step import Step, step
from tidewheel.pipelines.stored import Shelf, Stored
from tidewheel.pipelines.tree import decode, encode

PATIENCE = 120.0  # seconds within which a healthy executor has answered, on a busy machine too

Make = Callable[[Shelf], Executor]


@step
def double(x: int) -> int:
    """Say what is done, and do it."""
    print(f"doubling {x} as {step_context().idempotency_key}")  # noqa: T201 - the executor keeps it in the log
    return 2 * x


@step
def divide(rows: pl.DataFrame, at: int) -> tuple[pl.DataFrame, int]:
    """Return two artifacts."""
    return rows.head(at), rows.height


@step
def lengthen(items: list[int]) -> list[int]:
    """Change the input in place, as careless code does."""
    items.append(99)
    return items


@step
def stumble(how: str) -> int:
    """Fail in one way or another."""
    if how == "leave":
        raise SystemExit(3)
    raise ValueError("no such tide")


@step
def flood(size: int) -> bytes:
    """Return more than fits into a row."""
    return os.urandom(size)


@step
def outlive(marker: str) -> int:
    """Leave a mark and go on for longer than anyone waits."""
    Path(marker).touch()
    time.sleep(10 * PATIENCE)
    return 1


@step
def die() -> int:
    """End the own process as the kernel does for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


class NoRoom(FolderBlobs):
    """A folder of blobs without room for new ones."""

    def put(self, data: bytes) -> str:
        """Refuse."""
        raise StorageUnavailable(f"{len(data)} bytes cannot be kept in {self.folder}: no room.", "Free room.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A stored value that a task is given."""

    stored: Stored  # how it is kept
    shelf: Shelf  # where

    @property
    def content(self) -> str:
        """Digest of the value's content."""
        return self.stored.content

    def fresh(self) -> Any:
        """Return the value, read anew."""
        return decode(self.stored, self.shelf)


class ExecutorContract:
    """Subclass it in a test file as `class TestMyExecutor(ExecutorContract)` with a class-scoped fixture `make`.

    One executor serves all tests of the class, so that one test's failures must not harm the next.
    """

    background: ClassVar[bool] = True  # False for an executor that executes a task while it is submitted

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Make:
        """Return what opens an executor on a shelf; override it, a class method too."""
        pytest.fail("a subclass of ExecutorContract has to define the fixture `make`")

    @pytest.fixture(scope="class")
    @classmethod
    def shelf(cls, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
        """Return an empty shelf."""
        folder = tmp_path_factory.mktemp("shelf")
        return Shelf(blobs=FolderBlobs(folder / "blobs"), files=folder / "files")

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls, make: Make, shelf: Shelf) -> Any:
        """Open the executor, and close it twice at the end: the second time nothing happens."""
        opened = make(shelf)
        yield opened
        opened.close()
        opened.close()

    def test_what_a_step_returns_is_kept(self, executor: Executor, shelf: Shelf, tmp_path: Path) -> None:
        """The outcome names the task and the code; the value is on the shelf, what was printed in the log."""
        task = _task(double, {"x": 21}, tmp_path)
        outcome = _outcome(executor, task)
        _same((outcome.id, outcome.failure, outcome.code), (task.id, None, task.code))
        _same(_values(outcome, shelf), [42])
        _same(f"doubling 21 as {task.context.idempotency_key}" in task.log.read_text(), expected=True)

    def test_stored_inputs_arrive_and_several_outputs_come_back(
        self, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """An input by digest is read from the shelf; a tuple that is annotated as one is as many artifacts."""
        rows = pl.DataFrame({"a": [1, 2, 3]})
        outcome = _outcome(executor, _task(divide, {"rows": _held(rows, shelf), "at": 2}, tmp_path))
        head, height = _values(outcome, shelf)
        _same((head.equals(rows.head(2)), height), (True, 3))

    def test_a_step_that_changes_its_input_changes_nothing_stored(
        self, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """The next task is given the value as it was kept."""
        given = _held([1, 2], shelf)
        for _ in range(2):
            outcome = _outcome(executor, _task(lengthen, {"items": given}, tmp_path))
            _same(_values(outcome, shelf), [[1, 2, 99]])

    @pytest.mark.parametrize(("how", "words"), [("raise", "ValueError: no such tide"), ("leave", "SystemExit")])
    def test_a_step_that_fails_is_an_outcome(
        self, executor: Executor, shelf: Shelf, tmp_path: Path, how: str, words: str
    ) -> None:
        """Whatever the step raises is told in one line and in the log, and the next task is served."""
        task = _task(stumble, {"how": how}, tmp_path)
        failure = _outcome(executor, task).failure
        seen = (failure is not None and failure.kind, failure is not None and words in failure.message)
        _same(seen, ("raised", True))
        _same("stumble" in task.log.read_text(), expected=True)
        _same(_values(_outcome(executor, _task(double, {"x": 1}, tmp_path)), shelf), [2])

    def test_every_task_has_exactly_one_outcome(self, executor: Executor, shelf: Shelf, tmp_path: Path) -> None:
        """Many tasks, as many at once as there are places; polling without a task returns at once."""
        waiting = {task.id: (task, number) for number in range(9) for task in [_task(double, {"x": number}, tmp_path)]}
        queue, flying = list(waiting.values()), 0
        seen: dict[str, list[Any]] = {}
        deadline = time.monotonic() + PATIENCE
        while len(seen) < len(waiting) and time.monotonic() < deadline:
            while queue and flying < executor.places:
                executor.submit(queue.pop()[0])
                flying += 1
            for outcome in executor.poll(PATIENCE):
                _same(outcome.id in seen, expected=False)
                seen[outcome.id] = _values(outcome, shelf)
                flying -= 1
        _same(seen, {key: [2 * number] for key, (_, number) in waiting.items()})
        _same(executor.poll(PATIENCE), [])

    def test_a_full_disk_is_told_apart_from_a_fault_of_the_step(self, make: Make, tmp_path: Path) -> None:
        """The failure is of kind "storage", and says how to mend it."""
        full = make(Shelf(blobs=NoRoom(tmp_path / "blobs"), files=tmp_path / "files"))
        try:
            failure = _outcome(full, _task(flood, {"size": 100_000}, tmp_path)).failure
        finally:
            full.close()
        _same(failure is not None and (failure.kind, failure.mend), ("storage", "Free room."))

    def test_an_overdue_or_dying_task_is_told_and_the_next_one_served(
        self, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """A timeout and a killed process each have their own kind of failure, and harm nobody else."""
        if not self.background:
            return
        marker = tmp_path / "begun"
        overdue = _outcome(executor, _task(outlive, {"marker": str(marker)}, tmp_path, timeout=0.2)).failure
        killed = _outcome(executor, _task(die, {}, tmp_path)).failure
        _same((overdue is not None and overdue.kind, marker.exists()), ("timeout", True))
        _same(killed is not None and (killed.kind, "SIGKILL" in killed.message), ("killed", True))
        _same(_values(_outcome(executor, _task(double, {"x": 4}, tmp_path)), shelf), [8])

    def test_a_cancelled_task_has_no_outcome(self, executor: Executor, shelf: Shelf, tmp_path: Path) -> None:
        """Its place is free again at once; cancelling what is not there does nothing."""
        if not self.background:
            return
        task = _task(outlive, {"marker": str(tmp_path / "begun")}, tmp_path)
        executor.submit(task)
        executor.cancel(task.id)
        executor.cancel(task.id)
        _same(executor.poll(0.0), [])
        _same(_values(_outcome(executor, _task(double, {"x": 5}, tmp_path)), shelf), [10])

    def test_what_a_dead_parent_left_finished_is_adopted(
        self, make: Make, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """Another executor at the same place finds the outcome by the task's id, and nothing for another id."""
        done = _task(double, {"x": 6}, tmp_path)
        outcome = _outcome(executor, done)
        heir = make(shelf)
        adopted, unknown = heir.adopt(done.id), heir.adopt(new_id())
        heir.close()
        _same(unknown, None)
        if self.background:
            _same(
                adopted is not None and (adopted.id, adopted.code, adopted.outputs),
                (
                    done.id,
                    done.code,
                    outcome.outputs,
                ),
            )


def _task(work: Step[..., Any], arguments: Mapping[str, Any], folder: Path, *, timeout: float | None = None) -> Task:
    key = new_id()
    return Task(
        id=key,
        step=work,
        arguments=arguments,
        context=StepContext(run_id=new_id(), step=work.name, attempt=1, idempotency_key=f"key-{key}"),
        code=code_digest(work).digest,
        timeout=timeout,
        log=folder / f"{key}.log",
    )


def _held(value: object, shelf: Shelf) -> Held:
    return Held(Kept(stored=encode(value, shelf), shelf=shelf))


def _outcome(executor: Executor, task: Task) -> Outcome:
    executor.submit(task)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for outcome in executor.poll(PATIENCE):
            if outcome.id == task.id:
                return outcome
    pytest.fail(f"{task.step.name} had no outcome within {PATIENCE:g} s")


def _values(outcome: Outcome, shelf: Shelf) -> list[Any]:
    if outcome.failure is not None:
        pytest.fail(f"the task failed: {outcome.failure.message}")
    return [decode(stored, shelf) for stored in outcome.outputs]


def _same(seen: object, expected: object) -> None:
    if seen != expected:
        pytest.fail(f"expected {expected!r}, got {seen!r}")
