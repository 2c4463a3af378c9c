"""An order for a worker far away: a blob that holds all it has to know, and the answer it leaves."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.fingerprint.code import code_digest
from tidewheel.pipelines.active import StepContext
from tidewheel.pipelines.executors.bundle import LIMIT, inside, pack
from tidewheel.pipelines.executors.loaded import project_digest
from tidewheel.pipelines.executors.seam import Failure, Outcome, Task, Usage, usage_from
from tidewheel.pipelines.executors.shipping import shipped, stored_arguments
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored, stored_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A step on its way: by its place in the bundle, or pickled where it has no place."""

    module: str  # module that defines it; "" for a pickled one
    name: str  # qualified name in that module
    file: str  # the module's file in the bundle; "" where it is installed
    pickled: str  # digest of the pickled step; "" where it has a place
    bundle: str  # digest of the bundle; "" where all that it needs is installed
    parts: Mapping[str, str]  # what its code closure is made of, as the controller sees it


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOrder:
    """A task as pure data; values of secrets are not in it."""

    id: str  # execution of the call
    step: Shipped  # what to call
    arguments: Stored  # the arguments by name, one tree
    context: StepContext  # what the step may know
    code: str  # digest of the code closure as the controller sees it
    project: str  # digest of the project's part of it, for a worker with packages of its own; "": all of it counts
    timeout: float | None  # seconds after which the step is ended, counted from when it begins
    variables: Mapping[str, str]  # environment variables while it runs
    secrets: tuple[str, ...]  # names of the variables in the worker's environment that hold secrets
    strict: bool  # whether the worker refuses when its packages differ

    def as_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        step, context = self.step, self.context
        return {
            "id": self.id,
            "step": {name: getattr(step, name) for name in Shipped.__slots__} | {"parts": dict(step.parts)},
            "arguments": self.arguments.as_json(),
            "context": {name: getattr(context, name) for name in StepContext.__slots__},
            "code": self.code,
            "project": self.project,
            "timeout": self.timeout,
            "variables": dict(self.variables),
            "secrets": list(self.secrets),
            "strict": self.strict,
        }

    def written(self) -> bytes:
        """Return the blob that says so; the same order is the same bytes."""
        return json.dumps(self.as_json(), sort_keys=True).encode()


def order_from(data: bytes) -> RemoteOrder:
    """Return the order that a blob holds."""
    record = json.loads(data)
    return RemoteOrder(
        id=record["id"],
        step=Shipped(**record["step"]),
        arguments=stored_from(record["arguments"]),
        context=StepContext(**record["context"]),
        code=record["code"],
        project=record["project"],
        timeout=record["timeout"],
        variables=record["variables"],
        secrets=tuple(record["secrets"]),
        strict=record["strict"],
    )


def ship(step: Step[..., Any], shelf: Shelf, *, limit: int = LIMIT) -> Shipped:
    """Put a step and the source that it needs among the blobs.

    Raises InvalidInput for a step that cannot be pickled and for source that is too long, StorageUnavailable when
    there is no room.
    """
    bundle = pack(step, limit=limit)
    digest = shelf.blobs.put(bundle.data) if bundle.files else ""
    parts = code_digest(step).parts
    data, by_value = shipped(step)
    if by_value:
        pickled = shelf.blobs.put(data)
        return Shipped(module="", name=step.name, file="", pickled=pickled, bundle=digest, parts=parts)
    module, name = step.__wrapped__.__module__, step.__wrapped__.__qualname__
    file = inside(module, getattr(sys.modules.get(module), "__file__", None) or "")
    file = file if file in bundle.files else ""
    return Shipped(module=module, name=name, file=file, pickled="", bundle=digest, parts=parts)


def order_of(task: Task, step: Shipped, shelf: Shelf, *, strict: bool) -> RemoteOrder:
    """Return the order for a task, its arguments kept among the blobs.

    Raises InvalidInput that names the argument which cannot go to another machine.
    """
    return RemoteOrder(
        id=task.id,
        step=step,
        arguments=stored_arguments(task, shelf),
        context=task.context,
        code=task.code,
        project=project_digest(code_digest(task.step)) if task.step.options.isolate else "",
        timeout=task.timeout,
        variables=dict(task.step.options.variables),
        secrets=task.secrets.names,
        strict=strict,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker says of an attempt."""

    outcome: Outcome  # outputs or failure, with usage
    attempt: int  # which try it was
    log: str  # digest of what was printed; "" for nothing

    def written(self) -> bytes:
        """Return the manifest that says so."""
        outcome, failure = self.outcome, self.outcome.failure
        told = failure and {
            "kind": failure.kind,
            "types": list(failure.types),
            "message": failure.message,
            "mend": failure.mend,
        }
        record = {
            "id": outcome.id,
            "attempt": self.attempt,
            "code": outcome.code,
            "outputs": [stored.as_json() for stored in outcome.outputs],
            "failure": told,
            "usage": outcome.usage.as_json() if outcome.usage else None,
            "log": self.log,
        }
        return json.dumps(record).encode()


def answer_from(data: bytes) -> Answer:
    """Return what a manifest says."""
    record = json.loads(data)
    failure, usage = record["failure"], record["usage"]
    outcome = Outcome(
        id=record["id"],
        outputs=tuple(stored_from(item) for item in record["outputs"]),
        failure=Failure(**failure | {"types": tuple(failure["types"])}) if failure else None,
        code=record["code"],
        usage=_usage(usage),
    )
    return Answer(outcome=outcome, attempt=record["attempt"], log=record["log"])


def _usage(record: Mapping[str, Any] | None) -> Usage | None:
    return usage_from(record) if record else None
