"""Records of runs and steps, as the journal tells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidewheel.errors import NotFound
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.transitions import RunState, StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened in a run just now, for live progress."""

    run_id: str  # the run
    pipeline: str  # its pipeline's name
    step: str  # the step's name, "" when it is about the run itself
    execution_id: str  # the step's execution, "" when it has none
    state: str  # the new state of the step or run
    detail: str  # one line: seconds it took, why it ran, what went wrong
    at: datetime  # when


def silent(event: RunEvent) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One call of a step in a run."""

    id: str  # its execution in the graph
    name: str  # the function's name
    identity: str  # module and qualified name
    state: StepState  # where it stands
    ordinal: int  # place among the run's calls, from 1
    attempt: int  # how often it was begun; 0 when it was answered from the cache
    key: str  # cache key, hexadecimal
    reason: str  # why it was executed, or what answered it
    outputs: tuple[Stored, ...]  # what it gave
    log: str  # file with what it printed, and its traceback
    started: datetime  # begin
    ended: datetime | None  # end, when it has ended
    error: str | None  # what went wrong, when it did
    usage: Mapping[str, Any] | None = None  # seconds, peak memory and bytes that the last try took, where measured
    inputs: Mapping[str, str] = field(default_factory=dict)  # argument to what it was, as the cache key tells it


class _Loading:
    """Where a run keeps the way to its output; not a field, because it is no part of the record."""

    __slots__ = ("_load",)
    _load: Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(_Loading):
    """One journaled execution of a pipeline."""

    id: str  # its execution in the graph
    pipeline: str  # the pipeline's name
    state: RunState  # where it stands
    parameters: Mapping[str, Any]  # what it was given, as text where it is not plain
    pins: Mapping[str, Any]  # inputs that the store picked: parameter to version
    cause: Mapping[str, Any]  # why it was started
    steps: tuple[StepRecord, ...]  # its calls in order; () in a list of runs
    resumed: int  # how often it was resumed
    environment: str  # digest of the environment
    code: str  # digest of the pipeline's code closure
    owner: str  # host and process that worked on it last
    started: datetime  # begin
    ended: datetime | None  # end, when it has ended
    error: str | None  # what went wrong, when it did
    facts: Mapping[str, Any] = field(default_factory=dict)  # host, Python, commit, seeds and more, as recorded

    @property
    def seconds(self) -> float | None:
        """How long it took from begin to end, pauses of a resumed run included; None while it goes on."""
        return None if self.ended is None else (self.ended - self.started).total_seconds()

    @property
    def output(self) -> Any:
        """The value that the pipeline returned, loaded when asked for.

        Raises NotFound for a run that has not succeeded, MissingBlob when its bytes were collected.
        """
        load: Callable[[], Any] | None = getattr(self, "_load", None)
        if load is None:
            raise NotFound("output of run", self.id, mend=f"The run is {self.state}.")
        return load()

    def with_output(self, load: Callable[[], Any]) -> Run:
        """Attach the way to the output, and return this record."""
        object.__setattr__(self, "_load", load)
        return self

    def _repr_html_(self) -> str:
        """Show the run in a notebook: its steps, states, times and a preview of its output."""
        from tidewheel.pipelines.html import run_html

        return run_html(self)
