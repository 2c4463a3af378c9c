"""Which run, if any, the code at hand belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tidewheel.errors import InvalidInput

if TYPE_CHECKING:
    from tidewheel.pipelines.wish import Input


class Recorder(Protocol):
    """Takes the calls that the body of a pipeline makes: a run executes them, a plan only foretells them."""

    def call(self, step: Any, arguments: Mapping[str, Any], *, item: int | None = None) -> Any:
        """Take a call of a `Step` (whose file imports this one); return handles for what it will return.

        `item` says which item of a map it is, from 0.
        """
        ...

    def pick(self, wanted: Input) -> Any:
        """Take an input that the store picks; return a handle for it."""
        ...

    def gather(self, handles: Any) -> Any:
        """Wait for the items of a map, and return which of them succeeded."""
        ...

    def approve(self, asked: Any) -> Any:
        """Take a question that people answer; return their answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a step can know about its own execution."""

    run_id: str  # the run
    step: str  # the step's name
    attempt: int  # 1 for the first try
    idempotency_key: str  # the same at every try and after a crash: give it to systems outside


_recorder: ContextVar[Recorder | None] = ContextVar("tidewheel_recorder", default=None)
_within: ContextVar[str] = ContextVar("tidewheel_within", default="")
_step: ContextVar[StepContext | None] = ContextVar("tidewheel_step", default=None)


def recorder() -> Recorder | None:
    """Return who takes the calls of steps here; None outside a run and inside a step."""
    return _recorder.get()


@contextmanager
def recording(by: Recorder | None) -> Iterator[None]:
    """Let calls of steps go to a recorder (or, with None, be plain calls) inside the block."""
    token = _recorder.set(by)
    try:
        yield
    finally:
        _recorder.reset(token)


def within() -> str:
    """Return the pipelines inside the run's own one whose bodies are being executed: "outer/inner", mostly ""."""
    return _within.get()


@contextmanager
def entering(name: str) -> Iterator[None]:
    """Mark the block as the body of a pipeline that was called by the body of another one."""
    before = _within.get()
    token = _within.set(f"{before}/{name}" if before else name)
    try:
        yield
    finally:
        _within.reset(token)


@contextmanager
def executing(context: StepContext) -> Iterator[None]:
    """Mark the block as the execution of a step: steps called in it are plain functions."""
    token = _step.set(context)
    try:
        with recording(None):
            yield
    finally:
        _step.reset(token)


def in_step() -> bool:
    """Say whether the code at hand is executed by a step of a run."""
    return _step.get() is not None


def step_context() -> StepContext:
    """Return what the step at hand can know about its execution.

    Raises InvalidInput outside a run, where there is no such thing.
    """
    context = _step.get()
    if context is None:
        raise InvalidInput(
            "There is no step being executed by a run here.",
            "Call step_context() inside a @step, and start the pipeline as a run.",
        )
    return context
