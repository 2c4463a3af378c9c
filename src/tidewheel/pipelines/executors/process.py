"""Steps in warm child processes: side by side, ended when overdue, and their death survived."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from tidewheel.blobs.store import MemoryBlobs
from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.pipelines.executors.seam import Beat, Failure, Held, Outcome, Site, Task
from tidewheel.pipelines.executors.worker import Begun, Order, Setup, Stale, read_manifest
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.tree import Marked, encode

_PROGRAM = "from tidewheel.pipelines.executors.worker import main; main()"
_START_SECONDS = 120.0  # within which a worker has to import what a step needs
_GONE = (BrokenPipeError, ConnectionResetError, EOFError)


@dataclass(slots=True)
class _Worker:
    """A child process and what it is doing."""

    process: subprocess.Popen[bytes]  # the child, leader of a process group of its own
    pipe: Connection  # tasks go down, outcomes come up
    life: int  # our end of the pipe whose closing ends the child
    errors: Any  # file with what it printed outside of tasks
    fresh: bool = True  # whether it has not executed anything yet
    task: Task | None = None  # what it executes
    deadline: float = 0.0  # monotonic time at which the task is overdue
    begun: bool = False  # whether the step itself runs, imports being done

    def end(self) -> None:
        """Kill the child with everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pipe.close()
        self.errors.close()
        with contextlib.suppress(OSError):
            os.close(self.life)


@dataclass(slots=True)
class _Pool:
    idle: list[_Worker] = field(default_factory=list)  # warm, last used last
    busy: dict[str, _Worker] = field(default_factory=dict)  # by task


class ProcessExecutor:
    """Executes each task in a child process; as many at once as there are cores, unless `places` says otherwise."""

    here = True

    def __init__(self, site: Site) -> None:
        if isinstance(site.shelf.blobs, MemoryBlobs):
            raise InvalidInput(
                "Blobs in memory cannot be seen by child processes.", "Keep them in a folder or run steps inline."
            )
        self._shelf = site.shelf
        self._attempts = site.attempts
        self.places = int(site.options.get("places", 0)) or len(os.sched_getaffinity(0))
        self._pool = _Pool()
        self._early: list[Outcome] = []

    def submit(self, task: Task) -> None:
        """Hand the task to a warm or new child."""
        try:
            order = self._order(task, strict=True)
        except InvalidInput as error:
            failure = Failure(kind="unusable", message=error.what, mend=error.mend, cause=error)
            self._early.append(Outcome(id=task.id, failure=failure))
            return
        self._hand_over(task, order)

    def poll(self, timeout: float) -> list[Outcome | Beat]:
        """Wait for children, at most until one is overdue."""
        early: list[Outcome | Beat] = [*self._early]
        self._early.clear()
        pool = self._pool
        if early or not pool.busy:
            return early
        soonest = min(worker.deadline for worker in pool.busy.values()) - time.monotonic()
        ready = wait([worker.pipe for worker in pool.busy.values()], max(0.0, min(timeout, soonest)))
        found = [self._received(worker) for worker in list(pool.busy.values()) if worker.pipe in ready]
        found += [self._overdue(worker) for worker in list(pool.busy.values()) if worker.deadline <= time.monotonic()]
        return [outcome for outcome in found if outcome is not None]

    def cancel(self, task_id: str) -> None:
        """Kill the child that executes the task."""
        worker = self._pool.busy.pop(task_id, None)
        if worker is not None:
            worker.end()

    def adopt(self, task_id: str) -> Outcome | None:
        """Return what a child finished after its parent had died."""
        return read_manifest(self._manifest(task_id))

    def close(self) -> None:
        """Kill every child."""
        for worker in (*self._pool.busy.values(), *self._pool.idle):
            worker.end()
        self._pool = _Pool()

    def _manifest(self, task_id: str) -> Path:
        return self._attempts / f"{task_id}.json"

    def _order(self, task: Task, *, strict: bool) -> Order:
        step, by_value = _shipped(task.step)
        return Order(
            id=task.id,
            step=step,
            by_value=by_value,
            arguments=self._arguments(task),
            context=task.context,
            code=task.code,
            strict=strict,
            log=task.log.absolute(),
            manifest=self._manifest(task.id).absolute(),
            secrets=task.secrets.revealed(),
        )

    def _arguments(self, task: Task) -> Stored:
        try:
            return encode(_marked(dict(task.arguments)), self._shelf, content="")
        except InvalidInput as error:
            raise InvalidInput(
                f"The argument {self._culprit(task)!r} of {task.step.name} cannot go to another process: {error.what}",
                f'{error.mend} Or pin the step to this process: @step(on="inline").',
            ) from error

    def _culprit(self, task: Task) -> str:
        for name, item in task.arguments.items():
            try:
                encode(_marked(item), self._shelf, content="")
            except InvalidInput:
                return name
        return ", ".join(task.arguments)

    def _hand_over(self, task: Task, order: Order) -> None:
        data = pickle.dumps(order)
        while True:
            worker = self._pool.idle.pop() if self._pool.idle else self._started()
            try:
                worker.pipe.send_bytes(data)
            except _GONE:
                worker.end()  # it died while idle
                if worker.fresh:
                    raise
                continue
            break
        worker.task, worker.begun = task, False
        worker.deadline = time.monotonic() + _START_SECONDS
        self._pool.busy[task.id] = worker

    def _started(self) -> _Worker:
        ours, theirs = Pipe()
        life_theirs, life = os.pipe()
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        try:
            process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), str(life_theirs)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(theirs.fileno(), life_theirs),
                start_new_session=True,
            )
        except OSError as error:
            raise StorageUnavailable(
                f"No child process can be started: {error.strerror}.", "Free memory or processes, or run steps inline."
            ) from error
        finally:
            theirs.close()
            os.close(life_theirs)
        ours.send_bytes(pickle.dumps(Setup(sys_path=[str(Path(p).absolute()) for p in sys.path], shelf=self._shelf)))
        return _Worker(process, ours, life, errors)

    def _received(self, worker: _Worker) -> Outcome | None:
        task = worker.task
        if task is None:
            return None
        try:
            message: Begun | Stale | Outcome = pickle.loads(worker.pipe.recv_bytes())  # noqa: S301 - our own child
        except (*_GONE, OSError):
            return self._died(worker, task)
        if isinstance(message, Begun):
            worker.begun = True
            worker.deadline = time.monotonic() + (task.timeout or float("inf"))
            return None
        del self._pool.busy[task.id]
        if isinstance(message, Stale):
            # A warm child may hold old code: a new one is asked. One that is new and still differs shows that the
            # code is not the same twice (a constant made of the time, say): the step is executed, not cached.
            order = self._order(task, strict=not worker.fresh)
            self._pool.idle.append(worker) if worker.fresh else worker.end()
            self._hand_over(task, order)
            return None
        worker.task, worker.fresh = None, False
        self._pool.idle.append(worker)
        return message

    def _died(self, worker: _Worker, task: Task) -> Outcome:
        del self._pool.busy[task.id]
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(timeout=5)
        code = worker.process.poll()
        worker.errors.seek(0)
        said = worker.errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        worker.end()
        message = f"its process {_death(code)}{': ' + said[0] if said else ''}"
        mend = "Out of memory ends a process so: give it less data or more room." if code == -signal.SIGKILL else ""
        return Outcome(id=task.id, failure=Failure(kind="killed", message=message, mend=mend))

    def _overdue(self, worker: _Worker) -> Outcome | None:
        task = worker.task
        if task is None:
            return None
        del self._pool.busy[task.id]
        worker.end()
        if not worker.begun:
            message = f"its modules were not imported within {_START_SECONDS:g} s"
            return Outcome(id=task.id, failure=Failure(kind="unusable", message=message, mend="Look what they import."))
        message = f"it ran longer than its timeout of {task.timeout:g} s and was ended"
        mend = "Give it more time (@step(timeout=...)) or less to do."
        return Outcome(id=task.id, failure=Failure(kind="timeout", message=message, mend=mend))


def _marked(item: Any) -> Any:
    """Return an argument with stored parts marked as such, so that they are not stored again."""
    if isinstance(item, Held):
        return Marked(item.given.stored)
    if type(item) is dict:
        return {key: _marked(inner) for key, inner in item.items()}
    return type(item)(_marked(inner) for inner in item) if type(item) in (list, tuple) else item


def _shipped(step: Step[..., Any]) -> tuple[bytes, bool]:
    """Return a step for another process: by its place where it can be imported, else by value."""
    function: Callable[..., Any] = step.__wrapped__
    module, name = function.__module__, function.__qualname__
    loaded: Any = sys.modules.get(module)
    found = loaded
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is step and module != "__main__":
        return pickle.dumps((module, name, getattr(loaded, "__file__", None))), False
    import cloudpickle

    try:
        return cloudpickle.dumps(step), True
    except Exception as error:  # any object that the function refers to may refuse in its own way
        raise InvalidInput(
            f"The step {step.name} cannot go to another process: {error}.",
            "Define it in a module, and open locks, files and connections inside it.",
        ) from error


def _death(code: int | None) -> str:
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
