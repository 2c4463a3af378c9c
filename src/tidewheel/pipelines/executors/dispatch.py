"""The controller's half of remote work: orders out, answers in, for every executor whose workers see only blobs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.blobs.store import BlobStore
from tidewheel.errors import InvalidInput, NotFound, StorageUnavailable, TidewheelError
from tidewheel.pipelines.executors.attempts import attempt_name, attempt_number, attempts_beside
from tidewheel.pipelines.executors.bundle import LIMIT
from tidewheel.pipelines.executors.remote_order import Answer, Shipped, answer_from, order_of, ship
from tidewheel.pipelines.executors.seam import Failure, Outcome, Site, Task
from tidewheel.pipelines.logs import StepLog
from tidewheel.pipelines.sizes import size_in_bytes
from tidewheel.pipelines.step import Step

SHARED = ("places", "blob_url", "bundle_limit", "strict", "variables")  # options that every remote executor has


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An order that was placed."""

    task: Task  # what is to be done
    url: str  # where the worker finds the blobs
    order: str  # digest of the order
    manifest: str  # name of the answer
    bundle: str  # digest of the source that it needs; "" for none
    inputs: tuple[str, ...]  # digests of the blobs that its arguments are made of

    @property
    def arguments(self) -> list[str]:
        """What the worker's program is told."""
        return [self.url, self.order, self.manifest]


class Dispatch:
    """Places orders and reads answers; `known` are the options of the executor beside the shared ones.

    Raises InvalidInput for blobs that others cannot see and for odd options, NotFound for unknown options.
    """

    def __init__(self, site: Site, executor: str, known: tuple[str, ...]) -> None:
        for name in site.options:
            if name not in (*SHARED, *known):
                raise NotFound(f"option of the executor {executor}", name, (*SHARED, *known))
        self._shelf = site.shelf
        self._attempts = attempts_beside(site.shelf.blobs)
        self._url = str(site.options.get("blob_url", "") or self._attempts.url)
        self._limit = size_in_bytes(site.options.get("bundle_limit", LIMIT), "bundle_limit")
        self._strict = bool(site.options.get("strict", False))
        self.variables = texts(site.options.get("variables", {}), "variables", executor)
        self._shipped: dict[Step[..., Any], Shipped] = {}

    @property
    def blobs(self) -> BlobStore:
        """Where orders and values are."""
        return self._shelf.blobs

    def send(self, task: Task) -> Sent:
        """Put the order for a task among the blobs.

        Raises InvalidInput for what cannot go to another machine, StorageUnavailable when there is no room.
        """
        if task.step not in self._shipped:
            self._shipped[task.step] = ship(task.step, self._shelf, limit=self._limit)
        shipped = self._shipped[task.step]
        order = order_of(task, shipped, self._shelf, strict=self._strict)
        return Sent(
            task=task,
            url=self._url,
            order=self._shelf.blobs.put(order.written()),
            manifest=attempt_name(task.id, task.context.attempt),
            bundle=shipped.bundle,
            inputs=order.arguments.blobs,
        )

    def answer(self, sent: Sent) -> Outcome | None:
        """Return what the manifest of an order says, its log laid where the task wants it; None without a manifest."""
        data = self._attempts.read(sent.manifest)
        return None if data is None else self.taken(sent, data)

    def taken(self, sent: Sent, data: bytes) -> Outcome:
        """Return what a manifest says, its log laid where the task wants it."""
        answer = answer_from(data)
        if answer.log:
            # Without its log an outcome is still one; the journal and the values do not depend on it.
            with contextlib.suppress(TidewheelError), StepLog(sent.task.log) as log:
                log.append(self._shelf.blobs.get(answer.log))
        return answer.outcome

    def settle(self, sent: Sent, failure: Failure) -> Outcome:
        """Return the manifest's outcome if a worker has left one, else the failure; a late worker then is too late."""
        found = self.answer(sent)
        if found is not None:
            return found
        outcome = Outcome(id=sent.task.id, failure=failure)
        answer = Answer(outcome=outcome, attempt=sent.task.context.attempt, log="")
        if not self._attempts.leave(sent.manifest, answer.written()):
            return self.answer(sent) or outcome
        return outcome

    def adopt(self, task_id: str) -> Outcome | None:
        """Return the outcome of the last attempt that a worker finished well, whoever had ordered it."""
        for name in sorted(self._attempts.names(f"{task_id}-"), key=attempt_number, reverse=True):
            data = self._attempts.read(name)
            outcome = answer_from(data).outcome if data else None
            if outcome is not None and outcome.id == task_id and outcome.failure is None:
                return outcome
        return None


def refused(task: Task, error: InvalidInput | StorageUnavailable) -> Outcome:
    """Return the outcome of a task that could not be sent."""
    kind: Any = "storage" if isinstance(error, StorageUnavailable) else "unusable"
    return Outcome(id=task.id, failure=Failure(kind=kind, message=error.what, mend=error.mend, cause=error))


def texts(table: Any, name: str, executor: str) -> dict[str, str]:
    """Return an option that is a table of texts; raises InvalidInput for anything else."""
    if not isinstance(table, Mapping) or not all(isinstance(text, str) for text in table.values()):
        raise InvalidInput(
            f"{name} = {table!r} of the executor {executor} is no table of texts.",
            f'Write {name} = {{ NAME = "text" }}.',
        )
    return dict(table)
