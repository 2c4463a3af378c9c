"""Steps side by side in threads of this process: nothing is copied, nothing is shipped; good for waiting and NumPy."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from tidewheel.errors import StorageUnavailable
from tidewheel.pipelines.executors.inline import execute, failure_of, filled_arguments, without_storage
from tidewheel.pipelines.executors.process import beat_seconds, check_options, places_of
from tidewheel.pipelines.executors.seam import Beat, Outcome, Site, Task, Usage
from tidewheel.pipelines.executors.usage import sample, thread_seconds
from tidewheel.pipelines.logs import StepLog

_OPTIONS = ("places", "beat_seconds")


@dataclass(slots=True)
class _Beating:
    """A task that is being executed, as another thread can look at it."""

    thread: int  # the kernel's number of its thread
    begun: float  # monotonic time
    before: float  # processor seconds of the thread then
    due: float  # monotonic time of the next sign of life


class ThreadsExecutor:
    """Executes each task in a thread; as many at once as there are cores, unless `places` says otherwise.

    Nothing can end a thread: steps with a timeout or a memory limit go to a process, and a task that is cancelled
    goes on in vain until it ends by itself. Steps share the process, its modules and its environment variables.
    """

    here = True

    def __init__(self, site: Site) -> None:
        check_options("threads", site, _OPTIONS)
        self.places = places_of(site)
        self._shelf = site.shelf
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._flying: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._beat_seconds = beat_seconds(site)
        self._beating: dict[str, _Beating] = {}
        self._at_work = 0  # threads that execute something, for cancelled tasks too

    def submit(self, task: Task) -> None:
        """Hand the task to a thread that is free, or to a new one."""
        self._flying.add(task.id)
        self._at_work += 1
        try:
            # What the store and the run's own values give is taken out here: they belong to the run's thread.
            given = filled_arguments(task)
        except StorageUnavailable as error:
            self._done.put(Outcome(id=task.id, failure=without_storage(error)))
            return
        except Exception as error:  # noqa: BLE001 - told as the outcome: a blob that is lost or damaged, a value that cannot be read here
            with StepLog(task.log, task.secrets) as log:
                self._done.put(Outcome(id=task.id, failure=failure_of(error, log, task.secrets)))
            return
        if self._at_work > len(self._threads):
            name = f"tidewheel-step-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        context = copy_context()  # the run's own, as a function call would have it; what a step sets in it is its own
        self._orders.put(lambda: context.run(self._execute, task, given))

    def poll(self, timeout: float) -> list[Outcome | Beat]:
        """Wait for a thread to be done, or for the next sign of life of one that is not."""
        soonest = min((beating.due for beating in list(self._beating.values())), default=float("inf"))
        timeout = max(0.0, min(timeout, soonest - time.monotonic()))
        found: list[Outcome | Beat] = []
        while self._flying:
            try:
                outcome = self._done.get(block=not found and timeout > 0, timeout=timeout or None)
            except queue.Empty:
                break
            self._at_work -= 1
            if outcome.id in self._flying:  # else it was cancelled
                self._flying.remove(outcome.id)
                found.append(outcome)
        return found + self._beats(time.monotonic())

    def cancel(self, task_id: str) -> None:
        """Forget the task: what it returns is thrown away."""
        self._flying.discard(task_id)

    def adopt(self, task_id: str) -> Outcome | None:
        """Return nothing: what ran in a dead process died with it."""
        del task_id
        return None

    def close(self) -> None:
        """Let the threads go; those that still execute something end with it, or with the process."""
        for _ in self._threads:
            self._orders.put(None)
        self._threads.clear()
        self._flying.clear()

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            order()

    def _beats(self, now: float) -> list[Outcome | Beat]:
        """Return a sign of life of every task for which it is time; memory and io are those of the whole process."""
        found: list[Outcome | Beat] = []
        for task_id, beating in list(self._beating.items()):
            if now >= beating.due and task_id in self._flying:
                beating.due = now + self._beat_seconds
                process = sample([os.getpid()])
                usage = Usage(
                    wall_seconds=now - beating.begun,
                    cpu_seconds=thread_seconds(beating.thread) - beating.before,
                    peak_memory=process.memory,
                    read_bytes=process.read_bytes,
                    written_bytes=process.written_bytes,
                )
                found.append(Beat(id=task_id, usage=usage))
        return found

    def _execute(self, task: Task, given: dict[str, Any]) -> None:
        now, thread = time.monotonic(), threading.get_native_id()
        due = now + self._beat_seconds
        self._beating[task.id] = _Beating(thread=thread, begun=now, before=thread_seconds(thread), due=due)
        try:
            with StepLog(task.log, task.secrets) as log:
                outcome = execute(task, log, self._shelf, given=given, own_thread=True)
        except StorageUnavailable as error:  # the log cannot be written
            outcome = Outcome(id=task.id, failure=without_storage(error))
        del self._beating[task.id]
        self._done.put(outcome)
