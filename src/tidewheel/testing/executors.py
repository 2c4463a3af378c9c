"""The promises of an executor, as tests that any backend can inherit.

`ExecutorContract` holds for all of them, `OtherProcessContract` for those whose steps run in processes of their own,
wherever these are, `ChildProcessContract` for those whose processes are children on this machine.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import new_id
from tidewheel.fingerprint.code import code_digest
from tidewheel.pipelines.active import StepContext
from tidewheel.pipelines.executors.crew import GIVEN, Crew
from tidewheel.pipelines.executors.seam import Beat, Executor, Failure, Held, Outcome, Task
from tidewheel.pipelines.secrets import NONE, Secrets
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored
from tidewheel.pipelines.tree import decode, encode
from tidewheel.testing import executor_steps as steps
from tidewheel.testing.executor_steps import PATIENCE, NoRoom, alive

Make = Callable[[Shelf], Executor]
_KEY = "a-key-that-nobody-sees"


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
        """The outcome names task, code and usage; the value is on the shelf, what was printed in the log."""
        task = task_of(steps.double, {"x": 21}, tmp_path)
        outcome = outcome_of(executor, task)
        same((outcome.id, outcome.failure, outcome.code), (task.id, None, task.code))
        same(values_of(outcome, shelf), [42])
        same(f"doubling 21 as {task.context.idempotency_key}" in task.log.read_text(), expected=True)
        used = outcome.usage
        same(used is not None and used.wall_seconds >= 0 and used.peak_memory > 0, expected=True)

    def test_stored_inputs_arrive_and_several_outputs_come_back(
        self, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """An input by digest is read from the shelf; a tuple that is annotated as one is as many artifacts."""
        outcome = outcome_of(executor, task_of(steps.divide, {"items": held([1, 2, 3], shelf), "at": 2}, tmp_path))
        same(values_of(outcome, shelf), [[1, 2], 3])

    def test_big_values_go_and_come(self, executor: Executor, shelf: Shelf, tmp_path: Path) -> None:
        """Ten megabytes out of one step and into the next."""
        outcome = outcome_of(executor, task_of(steps.flood, {"size": 10_000_000}, tmp_path))
        (data,) = values_of(outcome, shelf)
        taken = outcome_of(executor, task_of(steps.measure, {"data": held(data, shelf)}, tmp_path))
        same(values_of(taken, shelf), [10_000_000])

    def test_a_step_that_changes_its_input_changes_nothing_stored(
        self, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """The next task is given the value as it was kept."""
        given = held([1, 2], shelf)
        for _ in range(2):
            outcome = outcome_of(executor, task_of(steps.lengthen, {"items": given}, tmp_path))
            same(values_of(outcome, shelf), [[1, 2, 99]])

    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ("raise", "ValueError: no such tide"),
            ("leave", "SystemExit: 3"),
            ("unshippable", "Unshippable: which cannot be shown"),
        ],
    )
    def test_a_step_that_fails_is_an_outcome(
        self, executor: Executor, shelf: Shelf, tmp_path: Path, how: str, words: str
    ) -> None:
        """Whatever the step raises is told in one line and in the log, and the next task is served."""
        task = task_of(steps.stumble, {"how": how}, tmp_path)
        failure = failure_of(outcome_of(executor, task))
        same((failure.kind, words in failure.message), ("raised", True))
        same(failure.types[-1], "builtins.BaseException")
        same("stumble" in task.log.read_text(), expected=True)
        same(values_of(outcome_of(executor, task_of(steps.double, {"x": 1}, tmp_path)), shelf), [2])

    def test_every_task_has_exactly_one_outcome_and_places_are_kept(
        self, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """Ten tasks, never more at once than there are places; polling without a task returns at once."""
        book = tmp_path / "book"
        crew = Crew(executor, shelf, tmp_path)
        queue = [task_of(steps.take_turns, {"book": str(book)}, tmp_path) for _ in range(10)]
        wanted, seen = {task.id for task in queue}, list[str]()
        deadline = time.monotonic() + PATIENCE
        while len(seen) < len(wanted) and time.monotonic() < deadline:
            while queue and crew.has_room(GIVEN, queue[-1].step):
                crew.submit(GIVEN, queue.pop())
            seen += [outcome.id for outcome in crew.poll(PATIENCE) if values_of(outcome, shelf)]
        same((sorted(seen), executor.poll(PATIENCE)), (sorted(wanted), []))
        notes = book.read_text()
        depth = [notes[:end].count("+") - notes[:end].count("-") for end in range(1, len(notes) + 1)]
        same((max(depth) <= executor.places, depth[-1], len(notes)), (True, 0, 20))

    def test_variables_and_secrets_reach_the_step_and_nothing_else(
        self, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """The step sees them; its log covers the secret; neither stays behind in the process."""
        task = task_of(steps.tell, {}, tmp_path, secrets=Secrets({"HARBOUR_KEY": _KEY}))
        outcome = outcome_of(executor, task)
        same(values_of(outcome, shelf), ["spring", str(len(_KEY))])
        same(task.log.read_text(), "the key is ***\n")
        same(("HARBOUR_KEY" in os.environ, _KEY in repr(outcome)), (False, False))

    def test_a_full_disk_is_told_apart_from_a_fault_of_the_step(self, make: Make, tmp_path: Path) -> None:
        """The failure is of kind "storage", and says how to mend it."""
        full = make(Shelf(blobs=NoRoom(tmp_path / "blobs"), files=tmp_path / "files"))
        try:
            failure = failure_of(outcome_of(full, task_of(steps.flood, {"size": 100_000}, tmp_path)))
        finally:
            full.close()
        same((failure.kind, failure.mend), ("storage", "Free room."))


class OtherProcessContract(ExecutorContract):
    """What holds besides where steps run in processes of their own: these can die, be ended, and outlive the run."""

    def test_an_overdue_task_is_ended_with_all_that_it_started(
        self, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """Also what ignores SIGTERM, has left the session and has no parent any more; the next task is served."""
        marker = tmp_path / "family"
        arguments = {"marker": str(marker)}
        failure = failure_of(outcome_of(executor, task_of(steps.found_a_family, arguments, tmp_path, timeout=5.0)))
        same((failure.kind, "5 s" in failure.message), ("timeout", True))
        same(ended(marker, count=2), expected=True)
        same(values_of(outcome_of(executor, task_of(steps.double, {"x": 4}, tmp_path)), shelf), [8])

    @pytest.mark.parametrize(("how", "words"), [("die", "SIGKILL"), ("vanish", "7")])
    def test_a_process_that_ends_is_an_outcome(
        self, executor: Executor, shelf: Shelf, tmp_path: Path, how: str, words: str
    ) -> None:
        """Killed or gone by itself, it is told how, and harms nobody else."""
        work = steps.die if how == "die" else steps.vanish
        failure = failure_of(outcome_of(executor, task_of(work, {} if how == "die" else {"code": 7}, tmp_path)))
        same((failure.kind, words in failure.message), ("killed", True))
        same(values_of(outcome_of(executor, task_of(steps.double, {"x": 4}, tmp_path)), shelf), [8])

    def test_a_process_killed_from_outside_is_an_outcome(self, executor: Executor, tmp_path: Path) -> None:
        """Somebody else's SIGKILL in the middle of a step."""
        marker = tmp_path / "begun"
        task = task_of(steps.outlive, {"marker": str(marker)}, tmp_path)
        executor.submit(task)
        (pid,) = pids_in(marker, 1, executor)
        os.kill(pid, signal.SIGKILL)
        same(failure_of(awaited(executor, task)).kind, "killed")

    def test_a_cancelled_task_has_no_outcome_and_ends(self, executor: Executor, shelf: Shelf, tmp_path: Path) -> None:
        """Its process goes, its place is free at once; cancelling what is not there does nothing."""
        marker = tmp_path / "family"
        task = task_of(steps.found_a_family, {"marker": str(marker)}, tmp_path)
        executor.submit(task)
        pids_in(marker, 2, executor)
        executor.cancel(task.id)
        executor.cancel(task.id)
        same(values_of(outcome_of(executor, task_of(steps.double, {"x": 5}, tmp_path)), shelf), [10])
        same((ended(marker, count=2), executor.poll(0.0)), (True, []))

    def test_an_argument_that_cannot_leave_this_process_is_named(self, executor: Executor, tmp_path: Path) -> None:
        """The failure says which argument, and what to do."""
        failure = failure_of(outcome_of(executor, task_of(steps.double, {"x": threading.Lock()}, tmp_path)))
        same((failure.kind, "'x'" in failure.message, failure.mend != ""), ("unusable", True, True))

    def test_what_a_dead_parent_left_finished_is_adopted(
        self, make: Make, executor: Executor, shelf: Shelf, tmp_path: Path
    ) -> None:
        """Another executor at the same place finds the outcome by the task's id, and nothing for another id."""
        done = task_of(steps.double, {"x": 6}, tmp_path)
        outcome = outcome_of(executor, done)
        heir = make(shelf)
        adopted, unknown = heir.adopt(done.id), heir.adopt(new_id())
        heir.close()
        seen = adopted is not None and (adopted.id, adopted.code, adopted.outputs)
        same((seen, unknown), ((done.id, done.code, outcome.outputs), None))


class ChildProcessContract(OtherProcessContract):
    """What holds besides where these processes are children on this machine; `make` sets `beat_seconds` below 1."""

    def test_a_long_task_gives_signs_of_life(self, executor: Executor, tmp_path: Path) -> None:
        """Beats with growing usage while it goes on, and a last word about usage at its end."""
        stop = tmp_path / "stop"
        task = task_of(steps.work_until, {"stop": str(stop)}, tmp_path)
        executor.submit(task)
        beats = list[Beat]()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not (beats and beats[-1].usage.cpu_seconds > 0):
            beats += [message for message in executor.poll(PATIENCE) if isinstance(message, Beat)]
        stop.touch()
        outcome = awaited(executor, task)
        same({beat.id for beat in beats}, {task.id})
        last = beats[-1].usage
        same((last.peak_memory > 0, outcome.usage is not None), (True, True))
        same(outcome.usage is not None and outcome.usage.wall_seconds >= last.wall_seconds, expected=True)

    def test_a_task_that_holds_more_than_it_asked_for_is_ended(self, executor: Executor, tmp_path: Path) -> None:
        """The failure says how much it held, and how much it had asked for."""
        outcome = outcome_of(executor, task_of(steps.overeat, {"size": 400 * 2**20}, tmp_path))
        failure = failure_of(outcome)
        same((failure.kind, "asked for 200 MiB" in failure.message), ("killed", True))
        same(outcome.usage is not None and outcome.usage.peak_memory > 200 * 2**20, expected=True)

    def test_libraries_start_as_many_threads_as_cpus_were_asked_for(
        self, make: Make, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the user has set himself stays."""
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        fresh = make(shelf)
        told = values_of(outcome_of(fresh, task_of(steps.count_threads, {}, tmp_path)), shelf)
        fresh.close()
        same(told, ["2"])

    def test_children_end_with_a_parent_that_is_killed(self, make: Make, shelf: Shelf, tmp_path: Path) -> None:
        """With all that they have started; what one had finished is there for whoever goes on."""
        done = task_of(steps.double, {"x": 7}, tmp_path)
        marker = tmp_path / "family"
        pid = os.fork()
        if pid == 0:
            _run_until_killed(make(shelf), done, task_of(steps.found_a_family, {"marker": str(marker)}, tmp_path))
        pids_in(marker, 2)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        same(ended(marker, count=2), expected=True)
        heir = make(shelf)
        adopted = heir.adopt(done.id)
        heir.close()
        same(adopted and values_of(adopted, shelf), [14])


def _run_until_killed(executor: Executor, done: Task, endless: Task) -> None:
    """Execute one task and then another one without end, in a fork that never returns."""
    try:
        outcome_of(executor, done)
        outcome_of(executor, endless)
    finally:
        os._exit(1)


def task_of(
    work: Step[..., Any],
    arguments: Mapping[str, Any],
    folder: Path,
    *,
    timeout: float | None = None,
    secrets: Secrets = NONE,
) -> Task:
    """Return one call of a step as a task, with its log in a folder."""
    key = new_id()
    return Task(
        id=key,
        step=work,
        arguments=arguments,
        context=StepContext(run_id=new_id(), step=work.name, attempt=1, idempotency_key=f"key-{key}"),
        code=code_digest(work).digest,
        timeout=timeout,
        log=folder / f"{key}.log",
        secrets=secrets,
    )


def held(value: object, shelf: Shelf) -> Held:
    """Return a value as a stored input."""
    return Held(Kept(stored=encode(value, shelf), shelf=shelf))


def outcome_of(executor: Executor, task: Task) -> Outcome:
    """Submit a task and wait for its outcome."""
    executor.submit(task)
    return awaited(executor, task)


def awaited(executor: Executor, task: Task) -> Outcome:
    """Wait for the outcome of a task."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for message in executor.poll(PATIENCE):
            if isinstance(message, Outcome) and message.id == task.id:
                return message
    pytest.fail(f"{task.step.name} had no outcome within {PATIENCE:g} s")


def failure_of(outcome: Outcome) -> Failure:
    """Return why a task failed."""
    if outcome.failure is None:
        pytest.fail(f"the task did not fail: {outcome.outputs}")
    return outcome.failure


def values_of(outcome: Outcome, shelf: Shelf) -> list[Any]:
    """Return what a task gave."""
    if outcome.failure is not None:
        pytest.fail(f"the task failed: {outcome.failure.message}")
    return [decode(stored, shelf) for stored in outcome.outputs]


def pids_in(marker: Path, count: int, executor: Executor | None = None) -> list[int]:
    """Wait for processes to write their ids into a file, while an executor, if any, is looked after."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lines = marker.read_text().splitlines() if marker.exists() else []
        if len(lines) >= count:
            return [int(line) for line in lines]
        if executor is not None:
            _no_outcome(executor.poll(0.01))
        else:
            time.sleep(0.01)
    pytest.fail(f"{count} processes did not begin within {PATIENCE:g} s")


def _no_outcome(messages: Iterable[Outcome | Beat]) -> None:
    for message in messages:
        if isinstance(message, Outcome):
            pytest.fail(f"a task ended too early: {message}")


def ended(marker: Path, *, count: int) -> bool:
    """Wait for the processes of a file to be gone; says whether there were so many and all of them are."""
    pids = pids_in(marker, count)
    deadline = time.monotonic() + PATIENCE
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(pids) == count and not any(alive(pid) for pid in pids)


def same(seen: object, expected: object) -> None:
    """Fail unless two things are equal."""
    if seen != expected:
        pytest.fail(f"expected {expected!r}, got {seen!r}")
