"""An order for a worker far away: a blob that holds all it has to know, and the answer it leaves."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.fingerprint.code import code_digest
from tidewheel.pipelines.active import StepContext
from tidewheel.pipelines.executors.bundle import LIMIT, inside, pack
from tidewheel.pipelines.executors.seam import Failure, Held, Outcome, Task, Usage, usage_from
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored, stored_from
from tidewheel.pipelines.tree import Marked, encode


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
    function = step.__wrapped__
    module, name = function.__module__, function.__qualname__
    loaded = sys.modules.get(module)
    found: Any = loaded
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is step and module != "__main__":
        file = inside(module, getattr(loaded, "__file__", None) or "")
        file = file if file in bundle.files else ""
        return Shipped(module=module, name=name, file=file, pickled="", bundle=digest, parts=parts)
    pickled = shelf.blobs.put(_pickled(step))
    return Shipped(module="", name=name, file="", pickled=pickled, bundle=digest, parts=parts)


def _pickled(step: Step[..., Any]) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(step))
    except Exception as error:  # any object that the function refers to may refuse in its own way
        raise InvalidInput(
            f"The step {step.name} cannot go to another machine: {error}.",
            "Define it in a module, and open locks, files and connections inside it.",
        ) from error


def order_of(task: Task, step: Shipped, shelf: Shelf, *, strict: bool) -> RemoteOrder:
    """Return the order for a task, its arguments kept among the blobs.

    Raises InvalidInput that names the argument which cannot go to another machine.
    """
    return RemoteOrder(
        id=task.id,
        step=step,
        arguments=_arguments(task, shelf),
        context=task.context,
        code=task.code,
        timeout=task.timeout,
        variables=dict(task.step.options.variables),
        secrets=task.secrets.names,
        strict=strict,
    )


def _arguments(task: Task, shelf: Shelf) -> Stored:
    try:
        return encode(marked(dict(task.arguments)), shelf, content="")
    except InvalidInput as error:
        raise InvalidInput(
            f"The argument {_culprit(task, shelf)!r} of {task.step.name} cannot go to another machine: {error.what}",
            f'{error.mend} Or pin the step to this process: @step(on="inline").',
        ) from error


def _culprit(task: Task, shelf: Shelf) -> str:
    for name, item in task.arguments.items():
        try:
            encode(marked(item), shelf, content="")
        except InvalidInput:
            return name
    return ", ".join(task.arguments)


def marked(item: Any) -> Any:
    """Return an argument with stored parts marked as such, so that they are not stored again."""
    if isinstance(item, Held):
        return Marked(item.given.stored)
    if type(item) is dict:
        return {key: marked(inner) for key, inner in item.items()}
    return type(item)(marked(inner) for inner in item) if type(item) in (list, tuple) else item


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
