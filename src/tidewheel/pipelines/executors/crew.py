"""The executors of one run, made when the first step asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tidewheel.errors import NotFound
from tidewheel.pipelines.executors.inline import InlineExecutor
from tidewheel.pipelines.executors.seam import Executor, Outcome, Task
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf

INLINE, PROCESS, GIVEN = "inline", "process", "given"
PLACES = (INLINE, PROCESS, GIVEN)


class Crew:
    """Hands tasks to the executor that a step asks for, else to the run's.

    `default` is "inline", "process", or an executor that the caller keeps (and closes) itself.
    """

    def __init__(self, default: str | Executor, shelf: Shelf, attempts: Path) -> None:
        if isinstance(default, str) and default not in (INLINE, PROCESS):
            raise NotFound("executor", default, (INLINE, PROCESS))
        self._default = default if isinstance(default, str) else GIVEN
        self._made: dict[str, Executor] = {} if isinstance(default, str) else {GIVEN: default}
        self._makers: Mapping[str, Callable[[], Executor]] = {
            INLINE: lambda: InlineExecutor(shelf),
            PROCESS: lambda: _process(shelf, attempts),
        }
        self._flying: dict[str, str] = {}

    def place(self, step: Step[..., Any]) -> str:
        """Say where a step is executed; one with a timeout needs a process that can be ended."""
        if step.options.on is not None:
            return step.options.on
        return PROCESS if self._default == INLINE and step.options.timeout is not None else self._default

    def has_room(self, place: str) -> bool:
        """Say whether an executor takes one more task."""
        return sum(at == place for at in self._flying.values()) < self._executor(place).places

    def submit(self, place: str, task: Task) -> None:
        """Hand over a task."""
        self._flying[task.id] = place
        self._executor(place).submit(task)

    def poll(self, timeout: float) -> list[Outcome]:
        """Return what has become of tasks; waits only for those that run elsewhere."""
        done: list[Outcome] = []
        for place in dict.fromkeys(self._flying.values()):
            alone = place != INLINE and not done and len(set(self._flying.values())) == 1
            done += self._executor(place).poll(timeout if alone else 0.0)
        for outcome in done:
            self._flying.pop(outcome.id, None)
        return done

    def adopt(self, place: str, task_id: str) -> Outcome | None:
        """Return what a task of a dead process left behind finished."""
        return self._executor(place).adopt(task_id)

    def cancel(self, task_id: str) -> None:
        """End a task."""
        place = self._flying.pop(task_id, None)
        if place is not None:
            self._executor(place).cancel(task_id)

    def close(self) -> None:
        """Give back the executors that were made here."""
        for place, executor in self._made.items():
            if place != GIVEN:
                executor.close()

    def _executor(self, place: str) -> Executor:
        if place not in self._made:
            self._made[place] = self._makers[place]()
        return self._made[place]


def _process(shelf: Shelf, attempts: Path) -> Executor:
    from tidewheel.pipelines.executors.process import ProcessExecutor

    return ProcessExecutor(shelf, attempts)
