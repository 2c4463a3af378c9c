"""Steps side by side in threads of this process: nothing is copied, nothing is shipped; good for waiting and NumPy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace

from tidewheel.errors import StorageUnavailable
from tidewheel.pipelines.executors.inline import execute, failure_of, filled, without_storage
from tidewheel.pipelines.executors.process import check_options, places_of
from tidewheel.pipelines.executors.seam import Beat, Outcome, Site, Task
from tidewheel.pipelines.logs import StepLog

_OPTIONS = ("places",)


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
        self._at_work = 0  # threads that execute something, for cancelled tasks too

    def submit(self, task: Task) -> None:
        """Hand the task to a thread that is free, or to a new one."""
        self._flying.add(task.id)
        self._at_work += 1
        try:
            # What the store and the run's own values give is taken out here: they belong to the run's thread.
            task = replace(task, arguments={name: filled(item) for name, item in task.arguments.items()})
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
        self._orders.put(lambda: context.run(self._execute, task))

    def poll(self, timeout: float) -> list[Outcome | Beat]:
        """Wait for a thread to be done."""
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
        return found

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

    def _execute(self, task: Task) -> None:
        try:
            with StepLog(task.log, task.secrets) as log:
                outcome = execute(task, log, self._shelf, own_thread=True)
        except StorageUnavailable as error:  # the log cannot be written
            outcome = Outcome(id=task.id, failure=without_storage(error))
        self._done.put(outcome)
