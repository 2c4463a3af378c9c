"""What a resumed run has done already: its calls so far, found by content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidewheel.blobs.store import BlobStore
from tidewheel.lineage.records import Execution
from tidewheel.pipelines.cache import readable
from tidewheel.pipelines.stored import Stored, stored_from
from tidewheel.pipelines.transitions import DONE_STEP, StepState


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
    """The calls of a run before it was resumed; empty for a new run."""

    def __init__(self, calls: Iterable[Execution], blobs: BlobStore) -> None:
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
