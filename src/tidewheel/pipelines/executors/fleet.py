"""Tasks in worker processes, of one interpreter or several: handed over, heard of, ended."""

from __future__ import annotations

import contextlib
import pickle
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidewheel.pipelines.executors.admission import shown_size
from tidewheel.pipelines.executors.frames import Frames, ready_of
from tidewheel.pipelines.executors.machine import whole
from tidewheel.pipelines.executors.orders import Begun, Done, Order, Stale
from tidewheel.pipelines.executors.pool import GONE, START_SECONDS, Pool, Worker
from tidewheel.pipelines.executors.seam import Beat, Failure, Outcome, Task, Usage, usage_from

_DEATH_SECONDS = 10.0  # within which the warden tells why a worker's pipe has closed


@dataclass(slots=True)
class _Job:
    """A task that a worker executes."""

    pool: Pool  # whose worker
    worker: Worker  # which one
    order: Callable[[bool], Order]  # makes its order, strict or not


class Fleet:
    """Gives tasks to the workers of pools and turns what comes back into outcomes."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}
        self._never_same: set[str] = set()  # digests of code that is another one in every new worker

    def submit(self, task: Task, pool: Pool, order: Callable[[bool], Order]) -> None:
        """Hand a task to a warm or new worker of a pool; `order` makes its order, strict or not.

        Raises InvalidInput for what cannot go to another process, StorageUnavailable when there is no worker.
        """
        self._hand_over(task, pool, order, strict=task.code not in self._never_same)

    def poll(self, timeout: float, others: Iterable[Frames] = ()) -> list[Outcome | Beat]:
        """Wait for workers, or for one of some other connections."""
        found: list[Outcome | Beat] = []
        jobs = list(self._jobs.values())
        pools = {id(job.pool): job.pool for job in jobs}
        if not jobs and not others:
            return found
        sources: list[Any] = [*others, *(job.worker.pipe for job in jobs if not job.worker.closed)]
        sources += [pool.control for pool in pools.values() if pool.control is not None]
        soonest = min((job.worker.deadline for job in jobs), default=float("inf")) - time.monotonic()
        ready = ready_of(sources, max(0.0, min(timeout, soonest)))
        for job in jobs:
            if job.worker.pipe in ready:
                found += self._received(job)
        for pool in pools.values():
            for said in pool.hear():
                found += self._heard(pool, said)
        now = time.monotonic()
        found += [self._silent(job) for job in list(self._jobs.values()) if job.worker.deadline <= now]
        return found

    def cancel(self, task_id: str) -> None:
        """End the worker that executes a task; nothing happens when there is none."""
        job = self._jobs.pop(task_id, None)
        if job is not None:
            job.pool.retire(job.worker)

    def clear(self) -> None:
        """Forget every task; the pools are being closed."""
        self._jobs.clear()

    def _hand_over(self, task: Task, pool: Pool, order: Callable[[bool], Order], *, strict: bool) -> None:
        shape = (whole(task.step.options.cpus), task.devices)
        self._jobs[task.id] = _Job(pool=pool, worker=pool.hand_over(task, order(strict), shape), order=order)

    def _received(self, job: _Job) -> list[Outcome]:
        worker, task = job.worker, job.worker.task
        if task is None:
            return []
        try:
            message: Begun | Stale | Done = pickle.loads(worker.pipe.recv_bytes())  # noqa: S301 - our own child
        except GONE:
            worker.closed, worker.deadline = True, time.monotonic() + _DEATH_SECONDS
            return []
        if isinstance(message, Begun):
            worker.begun, worker.deadline = True, float("inf")
            worker.parcels.add(worker.parcel)
            return []
        del self._jobs[task.id]
        if isinstance(message, Stale):
            # A warm worker may hold old code: a new one is asked. One that is new and still differs shows that the
            # code is not the same twice (a constant made of the time, say): the step is executed, not cached.
            strict = not worker.fresh
            if worker.fresh:
                self._never_same.add(task.code)
            job.pool.rest(worker) if worker.fresh else job.pool.retire(worker)
            self._hand_over(task, job.pool, job.order, strict=strict)
            return []
        peak, worker.fresh = worker.peak, False
        job.pool.rest(worker, memory=message.memory)
        return [_with_peak(message.outcome, peak)]

    def _heard(self, pool: Pool, said: Mapping[str, Any]) -> list[Outcome | Beat]:
        worker = pool.workers.get(said["key"])
        if worker is None:
            return []
        task = worker.task
        if said["event"] == "peak":
            worker.peak = max(worker.peak, int(said["memory"])) if task and task.id == said["task"] else worker.peak
            return []
        if said["event"] == "beat":
            return [Beat(id=task.id, usage=usage_from(said["usage"]))] if task and task.id == said["task"] else []
        return list(self._ended(pool, worker, said))

    def _ended(self, pool: Pool, worker: Worker, said: Mapping[str, Any]) -> list[Outcome]:
        """Take in that a worker has ended; what it sent before counts."""
        task = worker.task
        job = self._jobs.get(task.id) if task else None
        if task is None or job is None:
            pool.bury(worker)
            return []
        with contextlib.suppress(OSError):
            while not worker.closed and task.id in self._jobs and worker.pipe.poll():
                outcomes = self._received(job)
                if outcomes:
                    pool.bury(worker)
                    return outcomes
        if self._jobs.get(task.id) is not job:
            return []  # it was handed to another worker meanwhile
        del self._jobs[task.id]
        usage = usage_from(said["usage"]) if "usage" in said else None
        failure = _failure(task, said, worker.last_words() or str(said.get("error", "")), usage)
        pool.bury(worker)
        return [Outcome(id=task.id, failure=failure, usage=usage)]

    def _silent(self, job: _Job) -> Outcome:
        """Give up a worker whose imports do not end, or which has closed its pipe and does not die."""
        worker, task = job.worker, job.worker.task
        task_id = task.id if task else ""
        del self._jobs[task_id]
        job.pool.retire(worker)
        if worker.closed:
            return Outcome(id=task_id, failure=Failure(kind="killed", message="its process does not answer"))
        message = f"its modules were not imported within {START_SECONDS:g} s"
        return Outcome(id=task_id, failure=Failure(kind="unusable", message=message, mend="Look what they import."))


def _with_peak(outcome: Outcome, peak: int) -> Outcome:
    usage = outcome.usage
    if usage is None or usage.peak_memory >= peak:
        return outcome
    return replace(outcome, usage=replace(usage, peak_memory=peak))


def _failure(task: Task, said: Mapping[str, Any], words: str, usage: Usage | None) -> Failure:
    if said["event"] == "refused":
        return Failure(
            kind="storage",
            message=f"No child process can be started: {said['error']}.",
            mend="Free memory or processes, or run steps inline.",
        )
    if said.get("why") == "timeout":
        message = f"it ran longer than its timeout of {task.timeout:g} s and was ended"
        return Failure(kind="timeout", message=message, mend="Give it more time (@step(timeout=...)) or less to do.")
    if said.get("why") == "memory":
        used, asked = shown_size(said["used"]), shown_size(task.step.options.memory or 0)
        message = f"it used {used} of memory, asked for {asked}, and was ended"
        return Failure(kind="killed", message=message, mend="Ask for more (@step(memory=...)) or give it less data.")
    if words.startswith("ModuleNotFoundError"):
        mend = "Its environment lacks what reads the store: add the package to its lock or header."
        return Failure(kind="unusable", message=f"its process could not begin: {words}", mend=mend)
    message = f"its process {_death(said['code'])}{': ' + words if words else ''}"
    killed = said["code"] == -signal.SIGKILL
    held = f" It held {shown_size(usage.peak_memory)}." if killed and usage and usage.peak_memory else ""
    mend = f"Out of memory ends a process so: give it less data or more room.{held}" if killed else ""
    return Failure(kind="killed", message=message, mend=mend)


def _death(code: int | None) -> str:
    if code is None:
        return "died with the warden of all workers"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
