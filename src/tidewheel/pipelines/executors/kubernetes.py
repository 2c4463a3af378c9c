"""Steps as Kubernetes Jobs. The cluster is asked over its API alone; workers need nothing but the blob store."""

from __future__ import annotations

import contextlib
import queue
import time
from dataclasses import dataclass, replace
from typing import Any

from tidewheel.errors import InvalidInput, StorageUnavailable, TidewheelError
from tidewheel.pipelines.executors.attempts import attempt_name
from tidewheel.pipelines.executors.cluster_api import ClusterApi
from tidewheel.pipelines.executors.dispatch import Dispatch, Sent, refused
from tidewheel.pipelines.executors.job_watch import JobWatch, Known, News, Seen
from tidewheel.pipelines.executors.jobs import (
    ATTEMPT,
    EXECUTION,
    JOB,
    OPTIONS,
    failure_of,
    finished,
    job_name,
    job_of,
    label,
    stuck,
    wishes_of,
)
from tidewheel.pipelines.executors.kubeconfig import find_access
from tidewheel.pipelines.executors.seam import Beat, Failure, Outcome, Site, Task
from tidewheel.pipelines.logs import StepLog

_PLACES = 64  # Jobs at once; a queue (Kueue) or the scheduler decides when each starts
_LOOK_SECONDS = 10.0  # between two looks for pods that cannot start


@dataclass(slots=True)
class _Flight:
    """A Job that is waited for."""

    sent: Sent  # the order
    name: str  # of the Job


class KubernetesExecutor:
    """Executes each task as a Job of a name that follows from the execution and its try.

    Its options stand in docs/clusters.md; `image` alone has to be given.

    Raises InvalidInput without an image, for odd options and for blobs in memory, NotFound without a kubeconfig.
    """

    here = False

    def __init__(self, site: Site) -> None:
        options = site.options
        self._dispatch = Dispatch(site, "kubernetes", OPTIONS)
        self._wishes = wishes_of(options, self._dispatch.variables)
        self.places = int(options.get("places", 0)) or _PLACES
        access = find_access(str(options.get("kubeconfig", "")), str(options.get("context", "")))
        self._access, self._namespace = access, str(options.get("namespace", ""))
        self._api = ClusterApi(access, self._namespace)
        self._look_seconds = float(options.get("look_seconds", _LOOK_SECONDS))
        self._looked = time.monotonic()
        self._flying: dict[str, _Flight] = {}  # by the name of the Job
        self._early: list[Outcome] = []
        self._watch: JobWatch | None = None

    def submit(self, task: Task) -> None:
        """Make the task's Job, or follow one that a dead controller made for it."""
        try:
            sent = self._dispatch.send(task)
            name = self._running(task) if task.context.attempt > 1 else ""
            if name:
                number = int(name.rpartition("-")[2])
                flight = _Flight(sent=replace(sent, manifest=attempt_name(task.id, number)), name=name)
            else:
                flight = _Flight(sent=sent, name=job_name(task.id, task.context.attempt))
                name = "" if self._api.create(job_of(sent, self._wishes)) else flight.name
            self._flying[flight.name] = flight
            news = self._news()
            if name:  # what became of it may have been told before anybody waited
                news.put(Seen(name=name, job=self._api.job(name)))
        except (InvalidInput, StorageUnavailable) as error:
            self._early.append(refused(task, error))
        except TidewheelError as error:
            self._early.append(refused(task, InvalidInput(error.what, error.mend)))

    def poll(self, timeout: float) -> list[Outcome | Beat]:
        """Return outcomes of Jobs that have ended, and of those whose pods cannot start."""
        found: list[Outcome | Beat] = [*self._early]
        self._early.clear()
        if found or not self._flying:
            return found
        deadline = time.monotonic() + timeout
        news = self._news()
        while not found:
            left = min(deadline, self._looked + self._look_seconds) - time.monotonic()
            try:
                found += self._heard(news.get(timeout=left) if left > 0 else news.get_nowait())
            except queue.Empty:
                found += self._look()
                if time.monotonic() >= deadline:
                    break
        return found

    def cancel(self, task_id: str) -> None:
        """Delete the task's Job, its pods with it."""
        for name, flight in tuple(self._flying.items()):
            if flight.sent.task.id == task_id:
                del self._flying[name]
                with contextlib.suppress(TidewheelError):  # what is not deleted ends by itself, and nobody waits for it
                    self._api.delete(name)

    def adopt(self, task_id: str) -> Outcome | None:
        """Return what a Job finished, whoever had made it."""
        return self._dispatch.adopt(task_id)

    def close(self) -> None:
        """Delete the Jobs that are not done, and stop watching."""
        for flight in tuple(self._flying.values()):
            self.cancel(flight.sent.task.id)
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _news(self) -> queue.SimpleQueue[News]:
        if self._watch is None or not (self._watch.alive or not self._watch.news.empty()):
            self._watch = JobWatch(ClusterApi(self._access, self._namespace))
        return self._watch.news

    def _running(self, task: Task) -> str:
        """Return the Job that goes on with an earlier try of a task; "" when there is none."""
        jobs = self._api.jobs(f"{EXECUTION}={label(task.id)}").jobs
        for job in sorted(jobs, key=lambda job: int(job["metadata"]["labels"][ATTEMPT]), reverse=True):
            if finished(job) is None and not job["metadata"].get("deletionTimestamp"):
                return str(job["metadata"]["name"])
        return ""

    def _heard(self, news: News) -> list[Outcome]:
        if isinstance(news, Exception):
            tasks = [flight.sent.task for flight in self._flying.values()]
            self._flying.clear()
            return [refused(task, news) for task in tasks]
        if isinstance(news, Known):
            names = [name for name in self._flying if name not in news.names]
            # One that was made after the list was taken is not in it: the cluster is asked for each.
            return [outcome for name in names for outcome in self._heard(Seen(name=name, job=self._api.job(name)))]
        flight = self._flying.get(news.name)
        condition = {"reason": "it was deleted"} if news.job is None else finished(news.job)
        if flight is None or condition is None:
            return []
        del self._flying[news.name]
        return [self._ended(flight, condition)]

    def _ended(self, flight: _Flight, condition: Any) -> Outcome:
        outcome = self._dispatch.answer(flight.sent)
        if outcome is not None:
            return outcome
        task, said = flight.sent.task, b""
        pods: list[dict[str, Any]] = []
        with contextlib.suppress(TidewheelError):  # why it failed is told less well then
            pods = self._api.pods(f"{JOB}={flight.name}")
            said = b"".join(self._api.log(pod["metadata"]["name"]) for pod in pods[-1:])
        if said:
            with contextlib.suppress(TidewheelError), StepLog(task.log) as log:
                log.append(said)
        last = (said.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
        return self._dispatch.settle(flight.sent, failure_of(condition, pods, task, last))

    def _look(self) -> list[Outcome]:
        """Find Jobs whose pods wait for what will not come: an image, a secret."""
        if time.monotonic() < self._looked + self._look_seconds:
            return []
        self._looked = time.monotonic()
        found: list[Outcome] = []
        for pod in self._api.pods("app.kubernetes.io/managed-by=tidewheel"):
            name, why = pod["metadata"]["labels"].get(JOB, ""), stuck(pod)
            if why and name in self._flying:
                flight = self._flying.pop(name)
                self._api.delete(name)
                mend = "Correct image, secrets or volumes in the executor's table; kubectl describe pod tells more."
                failure = Failure(kind="unusable", message=f"its pod cannot start: {why}", mend=mend)
                found.append(self._dispatch.settle(flight.sent, failure))
        return found
