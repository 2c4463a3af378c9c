"""Calls of steps while their run goes on, and the values that they will give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidewheel.errors import StepFailed
from tidewheel.pipelines.codecs import codec_for
from tidewheel.pipelines.executors.seam import Held
from tidewheel.pipelines.handle import replaced
from tidewheel.pipelines.keys import Key
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored
from tidewheel.pipelines.transitions import DONE_STEP, StepState
from tidewheel.pipelines.tree import SCALARS, decode, encode

_ABSENT = object()


class Output:
    """A value of the run: what a step gives, a parameter, an input that the store picked."""

    __slots__ = ("_content", "_live", "_load", "_shelf", "_stored", "_wait", "call", "version_id")

    def __init__(self, shelf: Shelf, *, wait: Callable[[Call], None] | None = None, call: Call | None = None) -> None:
        self.call = call  # the call that gives it; None for what the run began with
        self.version_id = ""  # its version in the graph
        self._shelf = shelf
        self._wait = wait
        self._content = ""
        self._stored: Stored | None = None
        self._live: Any = _ABSENT
        self._load: Callable[[], Any] = self._decoded

    @property
    def content(self) -> str:
        """Digest of the value's content; only once the value is there."""
        return self._content or self.stored.content

    @property
    def stored(self) -> Stored:
        """How the value is kept; one that is read from elsewhere is kept now, because a process asks for it."""
        if self._stored is None and self._content:
            self._stored = encode(self.fresh(), self._shelf, content=self._content)
        if self._stored is None:
            raise StepFailed("A value was asked for before its step was done.", "Report this as a defect of tidewheel.")
        return self._stored

    def settle(self, stored: Stored, live: Any = _ABSENT) -> None:
        """Take the value in: how it is kept, and the object itself where it is at hand."""
        self._stored, self._live, self.version_id = stored, live, stored.version_id

    def settle_lazily(self, content: str, version_id: str, load: Callable[[], Any]) -> None:
        """Take in a value that is read from elsewhere than the blob store, when it is wanted."""
        self._content, self.version_id, self._load = content, version_id, load

    def get(self) -> Any:
        """Return the value for the body of the pipeline, waiting for its step; the same object each time."""
        if self.call is not None and self._wait is not None and not self.call.succeeded:
            self._wait(self.call)
        if self._live is _ABSENT:
            self._live = self._load()
        return self._live

    def fresh(self) -> Any:
        """Return the value for a step; what the step changes in it stays with that step."""
        if self._live is _ABSENT and self._stored is None:
            self._live = self._load()
        if self._live is not _ABSENT:
            if type(self._live) in SCALARS:
                return self._live
            codec = codec_for(self._live)
            shared = codec.shared(self._live) if codec else None
            if shared is not None:
                return shared
        return self._load()

    def _decoded(self) -> Any:
        return decode(self.stored, self._shelf)


@dataclass(slots=True, eq=False)
class Call:
    """One call of a step, from the body's line to its outputs."""

    step: Step[..., Any]  # what is called
    arguments: Mapping[str, Any]  # by name, with `Held` where the outputs of other calls belong
    ordinal: int  # place among the run's calls, from 1
    label: str  # name of its log: fit, fit-2
    state: StepState = StepState.READY  # where it stands
    missing: int = 0  # inputs that are not there yet
    dependents: list[Call] = field(default_factory=list)  # calls that wait for it
    outputs: tuple[Output, ...] = ()  # what it will give
    key: Key | None = None  # known once its inputs are
    occurrence: int = 0  # how many calls of this run with the same key came before
    execution_id: str = ""  # its execution, once begun
    attempt: int = 0  # tries so far, those before a crash included
    failures: int = 0  # tries of this process that failed
    begun: float = 0.0  # monotonic time at which the present try began
    retry_at: float = 0.0  # monotonic time of the next try
    reason: str = ""  # why it is executed, or what answered it
    error: StepFailed | None = None  # why it has no outputs
    seen: bool = False  # whether the body has met the error

    @property
    def succeeded(self) -> bool:
        """Whether its outputs are there."""
        return self.state in DONE_STEP

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.succeeded or self.error is not None

    def uses(self) -> list[tuple[str, str]]:
        """Return the versions that it is given, with the names of the parameters."""
        found: list[tuple[str, str]] = []
        for name, item in self.arguments.items():
            found += [(name[:100], given.version_id) for given in _givens(item) if given.version_id]
        return found


def _givens(item: Any) -> list[Output]:
    if isinstance(item, Held):
        return [item.given] if isinstance(item.given, Output) else []
    inner = item.values() if type(item) is dict else item if type(item) in (list, tuple) else ()
    return [given for part in inner for given in _givens(part)]


def held(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[Output]]:
    """Return the arguments with `Held` instead of handles, and what stands behind the handles."""
    outputs: list[Output] = []

    def hold(source: Any) -> Held:
        outputs.append(source)
        return Held(source)

    return {name: replaced(item, hold) for name, item in arguments.items()}, outputs
