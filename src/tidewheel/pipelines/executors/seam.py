"""The executor seam: tasks in, outcomes out; nothing behind it touches the database."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.active import StepContext
from tidewheel.pipelines.matching import mismatch
from tidewheel.pipelines.patience import Patience
from tidewheel.pipelines.secrets import NONE, Secrets
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored
from tidewheel.pipelines.tree import encode, encode_record


class Given(Protocol):
    """An input that is stored already: the output of another step, a parameter, a pinned dataset."""

    @property
    def content(self) -> str:
        """Digest of the value's content."""
        ...

    @property
    def stored(self) -> Stored:
        """How the value is kept, for a process that reads it from the blob store."""
        ...

    def fresh(self) -> Any:
        """Return the value for a step in this process; what the step changes in it stays with that step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where an executor works: every executor is made as `SomeExecutor(site)`."""

    shelf: Shelf  # where values are
    attempts: Path  # folder for what workers leave behind, such as manifests of what they finished
    options: Mapping[str, Any] = field(default_factory=dict)  # its table of tidewheel.toml, say {"places": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a try has used, with the processes that it started as far as they could be seen."""

    wall_seconds: float  # since the step itself began
    cpu_seconds: float  # user and system
    peak_memory: int  # bytes resident at the worst moment that was seen
    read_bytes: int  # by system calls, from files, pipes and sockets
    written_bytes: int  # likewise

    def as_json(self) -> dict[str, float]:
        """Return the record as a JSON object."""
        return {
            "wall_seconds": self.wall_seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_memory": self.peak_memory,
            "read_bytes": self.read_bytes,
            "written_bytes": self.written_bytes,
        }


def usage_from(record: Mapping[str, Any]) -> Usage:
    """Return the usage that a JSON object describes."""
    return Usage(
        wall_seconds=float(record["wall_seconds"]),
        cpu_seconds=float(record["cpu_seconds"]),
        peak_memory=int(record["peak_memory"]),
        read_bytes=int(record["read_bytes"]),
        written_bytes=int(record["written_bytes"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A sign of life of a task that goes on, every ten seconds at most."""

    id: str  # of the task
    usage: Usage  # so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One try of one call of a step."""

    id: str  # execution of the call; the same at every try
    step: Step[..., Any]  # what to call
    arguments: Mapping[str, Any]  # by name; parts that are stored already stand as `Held`
    context: StepContext  # what the step may know
    code: str  # digest of the step's code closure, as this process sees it
    timeout: float | None  # seconds after which it is ended
    log: Path  # where its output goes
    devices: tuple[str, ...] = ()  # GPUs that it may use, chosen by the crew
    secrets: Secrets = NONE  # what the step may read; `Secrets.revealed` says how they travel


class Held:
    """A place in a task's arguments where a stored value belongs."""

    __slots__ = ("given",)

    def __init__(self, given: Given) -> None:
        self.given = given


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a try gave no outputs."""

    kind: Literal["raised", "timeout", "killed", "storage", "unusable"]  # storage: no room; unusable: cannot be run
    types: tuple[str, ...] = ()  # module.name of the error's class and of its bases, wherever it was raised
    message: str  # one line
    mend: str = ""  # how to put it right, where that is known
    cause: BaseException | None = None  # the error itself, where it happened in this process


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a task."""

    id: str  # of the task
    outputs: tuple[Stored, ...] = ()  # kept already; () after a failure
    live: tuple[Any, ...] | None = None  # the same values as objects, when it ran in this process
    failure: Failure | None = None  # why there are none
    code: str = ""  # digest of the code that was executed
    usage: Usage | None = None  # what the try used; None when nobody could see


class Executor(Protocol):
    """Executes tasks and keeps what they return in the blob store."""

    places: int  # how many tasks of one cpu it takes at once; it is never given more
    here: bool  # whether they use this machine, whose cores and memory the crew then shares out

    def submit(self, task: Task) -> None:
        """Take a task."""
        ...

    def poll(self, timeout: float) -> list[Outcome | Beat]:
        """Return outcomes as soon as there are some, after `timeout` seconds at the latest; ends what is overdue."""
        ...

    def cancel(self, task_id: str) -> None:
        """End a task; it has no outcome then."""
        ...

    def adopt(self, task_id: str) -> Outcome | None:
        """Return what a task of a dead process left behind finished, if it did."""
        ...

    def close(self) -> None:
        """End everything and give all processes back."""
        ...


def types_of(error: BaseException) -> tuple[str, ...]:
    """Return the names of an error's class and of its bases, the nearest first: what `retry_on` is compared with.

    >>> types_of(FileNotFoundError())[:2]
    ('builtins.FileNotFoundError', 'builtins.OSError')
    """
    return tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__[:-1])


def kept(
    step: Step[..., Any], result: Any, shelf: Shelf, secrets: Secrets = NONE
) -> tuple[tuple[Any, ...], tuple[Stored, ...]]:
    """Keep what a step returned: one artifact, or several where it is annotated `tuple[A, B]`.

    Where the blob store is full or does not answer, what is computed waits, as long as the shelf has patience.
    Raises InvalidInput when it does not return what its annotation says, a secret, or what cannot be stored.
    """
    _check(step, result, secrets)
    if step.parts is None:
        return (result,), (_encoded(result, shelf, record=bool(step.shape.names)),)
    return result, tuple(_encoded(item, shelf) for item in result)


def _check(step: Step[..., Any], result: Any, secrets: Secrets) -> None:
    """Refuse a result that is not what the annotation says, or that tells a secret of the step."""
    several = step.parts
    if several is not None and (type(result) is not tuple or len(result) != several):
        seen = f"{len(result)} values" if type(result) is tuple else f"a {type(result).__name__}"
        raise InvalidInput(
            f"{step.name} is annotated to return {several} values and returned {seen}.",
            "Return what the annotation says, or correct the annotation.",
        )
    wrong = mismatch(result, step.shape.annotation)
    if wrong:
        raise InvalidInput(
            f"{step.name} did not return what its annotation says: {wrong}.",
            "Return what the annotation says, or correct the annotation.",
        )
    told = secrets.told_in(result) if secrets else ""
    if told:
        raise InvalidInput(
            f"{step.name} returned the secret {told}, which would be stored then.",
            "Use a secret inside the step that names it, and return what was got with it.",
        )


def _encoded(item: Any, shelf: Shelf, *, record: bool = False) -> Stored:
    return Patience(shelf.patience, _log).keep(
        lambda: encode_record(item, shelf) if record else encode(item, shelf, paths=True)
    )


def _log(text: str) -> None:
    """Tell by the step's log: what a step prints goes there."""
    sys.stderr.write(f"{text}\n")
