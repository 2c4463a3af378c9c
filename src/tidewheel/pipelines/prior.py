"""What a resumed run has done already: its calls so far, found by content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from tidewheel.blobs.store import BlobStore
from tidewheel.lineage.read import list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.cache import readable
from tidewheel.pipelines.calls import Call, Output
from tidewheel.pipelines.executors.seam import Held
from tidewheel.pipelines.stored import Stored, stored_from
from tidewheel.pipelines.transitions import DONE_STEP, StepState

RERUN = "rerun"  # kind of the cause of a run that runs another one again
_MANY = 1_000_000  # more calls than a run has


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """One call as the journal has it."""

    execution_id: str  # its execution
    state: StepState  # where it stood
    attempt: int  # tries so far
    outputs: tuple[Stored, ...]  # what it gave; () unless it is done and readable

    @property
    def done(self) -> bool:
        """Whether it has outputs that can be read, and so is not executed again."""
        return self.state in DONE_STEP and bool(self.outputs)


class Prior:
    """The calls of a run before it was resumed; empty for a new run.

    `again` is there for a run that runs another one again.
    """

    def __init__(self, calls: Iterable[Execution], blobs: BlobStore, again: Again | None = None) -> None:
        self.again = again
        self._by_key: dict[tuple[str, int], Earlier] = {}
        self._by_ordinal: dict[tuple[str, int], Earlier] = {}
        for row in calls:
            outputs = tuple(stored_from(record) for record in row.facets.get("outputs", ()))
            earlier = Earlier(
                execution_id=row.id,
                state=StepState(row.state),
                attempt=int(row.facets["attempt"]),
                outputs=outputs if readable(outputs, blobs) else (),
            )
            if row.facets["key"]:
                self._by_key[row.facets["key"], row.facets["occurrence"]] = earlier
            else:
                self._by_ordinal[row.job, row.facets["ordinal"]] = earlier

    def find(self, key: str, occurrence: int) -> Earlier | None:
        """Return the call with that key, and so many calls of the same key before it."""
        return self._by_key.get((key, occurrence))

    def skipped(self, step: str, ordinal: int) -> Earlier | None:
        """Return the call at that place which never began, because an input of it had failed."""
        return self._by_ordinal.get((step, ordinal))


class Again:
    """Says of each call of a run that runs another one again whether it is executed, and what the old run answers.

    Executed is every call of the named step (or the one call, where the name is a label such as fit-2), and every call
    with an input that comes of such a one. Without a name, all calls are.
    """

    def __init__(self, calls: Iterable[Execution], blobs: BlobStore, start: str) -> None:
        self._old = Prior(calls, blobs)
        self._start = start
        self._new: WeakSet[Output] = WeakSet()  # outputs of calls that are executed

    def forces(self, call: Call) -> bool:
        """Say whether a call is executed, whatever was answered before."""
        inputs = (given for item in call.arguments.values() for given in _givens(item))
        named = self._start in ("", call.label, call.step.name, call.step.identity)
        if not named and not any(given in self._new for given in inputs):
            return False
        for output in call.outputs:
            self._new.add(output)
        return True

    def find(self, key: str, occurrence: int) -> Earlier | None:
        """Return what the old run has for a call, if it is done and can be read."""
        earlier = self._old.find(key, occurrence)
        return earlier if earlier is not None and earlier.done else None


def again_of(store: Store, run: Execution) -> Again | None:
    """Return what a run that runs another one again has to know of that one; None for other runs."""
    cause = run.facets["cause"]
    if cause.get("kind") != RERUN:
        return None
    with store.database.reading() as tx:
        calls = list_executions(tx, "step", parent_id=cause["execution_id"], limit=_MANY)
    return Again(calls, store.blobs, cause["from"])


def _givens(item: Any) -> Iterator[Output]:
    if isinstance(item, Held):
        if isinstance(item.given, Output):
            yield item.given
        return
    inner = item.values() if type(item) is dict else item if type(item) in (list, tuple) else ()
    for part in inner:
        yield from _givens(part)
