"""Calls of steps while their run goes on, and the values that they will give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from weakref import ref

from tidewheel.errors import StepFailed
from tidewheel.pipelines.at_hand import AtHand, size_of
from tidewheel.pipelines.cache import Hit
from tidewheel.pipelines.codecs import codec_for
from tidewheel.pipelines.executors.seam import Held, Usage
from tidewheel.pipelines.handle import replaced
from tidewheel.pipelines.keys import Key
from tidewheel.pipelines.nested import mapped
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored
from tidewheel.pipelines.transitions import DONE_STEP, StepState
from tidewheel.pipelines.tree import SCALARS, decode, encode

_ABSENT = object()


class Output:
    """A value of the run: what a step gives, a parameter, an input that the store picked."""

    __slots__ = (
        "__weakref__",
        "_content",
        "_live",
        "_load",
        "_shelf",
        "_stored",
        "_touched",
        "_wait",
        "_weak",
        "call",
        "near",
        "version_id",
    )

    def __init__(self, shelf: Shelf, *, wait: Callable[[Call], None] | None = None, call: Call | None = None) -> None:
        self.call = call  # the call that gives it, until it has; None for what the run began with
        self.version_id = ""  # its version in the graph
        self.near: AtHand | None = None  # who says how long the object stays at hand; None: as long as this
        self._shelf = shelf
        self._wait = wait
        self._content = ""
        self._stored: Stored | None = None
        self._live: Any = _ABSENT
        self._weak: ref[Any] | None = None  # the object, while the body holds it
        self._touched = False
        self._load: Callable[[], Any] | None = None

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
        self._stored, self.version_id = stored, stored.version_id
        if live is not _ABSENT:
            self._hold(live)

    def settle_lazily(self, content: str, version_id: str, load: Callable[[], Any]) -> None:
        """Take in a value that is read from elsewhere than the blob store, when it is wanted."""
        self._content, self.version_id, self._load = content, version_id, load

    @property
    def at_hand(self) -> bool:
        """Whether the object itself is here and need not be read."""
        return self._live is not _ABSENT

    def wait(self) -> None:
        """Wait for the step that gives the value, without reading it."""
        if self.call is not None and self._wait is not None and not self.call.succeeded:
            self._wait(self.call)

    def get(self) -> Any:
        """Return the value for the body of the pipeline, waiting for its step; the same object as long as it lives."""
        self.wait()
        self._touched = True
        return self._object()

    def fresh(self) -> Any:
        """Return the value for a step; what the step changes in it stays with that step."""
        value = self._object() if self._stored is None else self._live
        if value is _ABSENT:
            return self._loaded()
        if type(value) in SCALARS:
            return value
        codec = codec_for(value)
        shared = codec.shared(value) if codec else None
        if shared is None:
            return self._loaded()
        if self.near is not None:
            self.near.handed(self)
        return shared

    def let_go(self) -> None:
        """Drop the object: it can be read again. One that the body has touched stays the same while the body has it."""
        if self._touched and self._live is not _ABSENT:
            try:
                self._weak = ref(self._live)
            except TypeError:
                return  # a list or dict: the body may have changed it, and nobody can tell whether it still has it
        self._live = _ABSENT

    def _object(self) -> Any:
        if self._live is _ABSENT and self._weak is not None:
            known = self._weak()
            if known is not None:
                return known
        if self._live is _ABSENT:
            loaded = self._loaded()
            self._hold(loaded)
            return loaded
        return self._live

    def _hold(self, value: Any) -> None:
        self._live, self._weak = value, None
        if self.near is not None:
            self.near.keep(self, size_of(value, self._stored.size if self._stored else 0))

    def _loaded(self) -> Any:
        return decode(self.stored, self._shelf) if self._load is None else self._load()


_NONE: Mapping[str, Any] = MappingProxyType({})


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
    place: str = ""  # the executor that it goes to
    within: str = ""  # the pipelines inside the run's that called it: "outer/inner"
    item: int | None = None  # which item of a map it is, from 0
    occurrence: int = 0  # how many calls of this run with the same key came before
    execution_id: str = ""  # its execution, once begun
    recorded: bool = False  # whether the journal has a row of it
    seen_answer: str = ""  # execution whose answer stood in the cache when it was looked for
    verifying: Hit | None = None  # the answer that it is executed again to check
    alone: bool = False  # whether it is executed even while another run executes the same
    looks: int = 0  # how often another run was found to execute the same
    attempt: int = 0  # tries so far, those before a crash included
    failures: int = 0  # tries of this process that failed
    begun: float = 0.0  # monotonic time at which the present try began
    retry_at: float = 0.0  # monotonic time of the next try
    usage: Usage | None = None  # what its present try has used, as far as it said
    reason: str = ""  # why it is executed, or what answered it
    error: StepFailed | None = None  # why it has no outputs
    said: str = ""  # what went wrong in its last try, in one line
    seen: bool = False  # whether the body has met the error

    @property
    def succeeded(self) -> bool:
        """Whether its outputs are there."""
        return self.state in DONE_STEP

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.succeeded or self.error is not None

    def release(self) -> None:
        """Drop what only a call that goes on needs; its outputs no longer lead to it, nor to its inputs."""
        self.arguments, self.key, self.verifying = _NONE, None, None
        for output in self.outputs:
            output.call = None
        self.outputs = ()

    def uses(self) -> list[tuple[str, str]]:
        """Return the versions that it is given, with the names of the parameters."""
        found: list[tuple[str, str]] = []
        for name, item in self.arguments.items():
            found += [(name[:100], given.version_id) for given in _givens(item) if given.version_id]
        return found


def _givens(item: Any) -> list[Output]:
    found: list[Output] = []
    mapped(item, (Held,), lambda held: found.append(held.given) if isinstance(held.given, Output) else None)
    return found


def held(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[Output]]:
    """Return the arguments with `Held` instead of handles, and what stands behind the handles."""
    outputs: list[Output] = []

    def hold(source: Any) -> Held:
        outputs.append(source)
        return Held(source)

    return {name: replaced(item, hold) for name, item in arguments.items()}, outputs
