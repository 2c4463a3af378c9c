"""The rows of calls: what the journal of a run writes about each, inside its transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidewheel.database.transaction import Transaction
from tidewheel.lineage.claim import claim_execution
from tidewheel.lineage.write import append_event, close_execution, link, start_execution
from tidewheel.pipelines import cache
from tidewheel.pipelines.artifacts import record_artifact
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.transitions import StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A call that gave its outputs."""

    call: Call  # which one
    outputs: tuple[Stored, ...]  # how they are kept
    live: tuple[Any, ...] | None = None  # the same as objects, where they are at hand
    reusable: bool = False  # whether other calls may be answered with them
    detail: str = ""  # one line for whoever watches


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Writes the rows of one run's calls; what a call has in memory is set by the caller, after the transaction."""

    run_id: str  # the run
    owner: str  # host and process that works on it

    def enter(
        self,
        tx: Transaction,
        call: Call,
        state: StepState,
        at: datetime,
        *,
        outputs: Sequence[Stored] | None = None,
        error: str | None = None,
    ) -> None:
        """Write the row of a call, or take up the one that an earlier try left; with outputs or an error it is over."""
        over = outputs is not None or error is not None
        facets = facets_of(call, outputs or ())
        if call.recorded:
            claim_execution(tx, call.execution_id, owner=self.owner, state=state, facets=facets)
            if over:
                close_execution(tx, call.execution_id, at=at, state=state, error=error, facets=facets)
            return
        start_execution(
            tx,
            kind="step",
            job=call.step.identity,
            at=at,
            parent_id=self.run_id,
            state=state,
            owner=self.owner,
            fencing=1,
            code_digest=call.key.code.digest if call.key else "",
            parameters=call.key.inputs if call.key else {},
            facets=facets,
            execution_id=call.execution_id,
            ended=at if over else None,
            error=error,
        )
        link(tx, call.execution_id, "part_of", self.run_id)

    def answer(self, tx: Transaction, done: Done, at: datetime) -> None:
        """Write that a call was answered by an earlier execution."""
        self.enter(tx, done.call, StepState.CACHED, at, outputs=done.outputs)
        for place, stored in enumerate(done.outputs):
            link(tx, done.call.execution_id, "used", stored.version_id, role="answer", idx=place)

    def commit(self, tx: Transaction, done: Done, at: datetime) -> tuple[Stored, ...]:
        """Write that a call is done: state, artifacts, arrows, cache, event; return its outputs with their versions."""
        call, whole = done.call, done.call.step.parts is None
        recorded = tuple(
            record_artifact(tx, call.step.identity if whole else f"{call.step.identity}[{place}]", stored, at)
            for place, stored in enumerate(done.outputs)
        )
        facets = facets_of(call, recorded) | self._verified(tx, call, recorded, at)
        close_execution(tx, call.execution_id, at=at, state=StepState.COMMITTED, error=None, facets=facets)
        self._draw_edges(tx, call, recorded)
        if done.reusable and call.key is not None:
            cache.remember(tx, call.key.digest, call.step.identity, call.execution_id, outputs=recorded, at=at)
        said = {"step": call.step.identity, "attempt": call.attempt, "outputs": [item.digest for item in recorded]}
        self.event(tx, "step.committed", said, at, call.execution_id)
        return recorded

    def conclude(self, tx: Transaction, call: Call, state: StepState, error: str, at: datetime) -> None:
        """Write that a try ended without outputs."""
        close_execution(tx, call.execution_id, at=at, state=state, error=error, facets=facets_of(call))
        said = {"step": call.step.identity, "attempt": call.attempt, "error": error}
        self.event(tx, f"step.{state.value.lower()}", said, at, call.execution_id)

    def event(self, tx: Transaction, kind: str, body: Any, at: datetime, subject: str) -> None:
        """Append an event of this run."""
        append_event(tx, kind, body, at=at, subject_id=subject, execution_id=self.run_id)

    def _verified(self, tx: Transaction, call: Call, outputs: Sequence[Stored], at: datetime) -> dict[str, Any]:
        """Compare with the answer that would have been given, and tell when the call gave something else."""
        if call.verifying is None:
            return {}
        before = [stored.content for stored in call.verifying.outputs]
        after = [stored.content for stored in outputs]
        found = "same" if before == after else "different"
        said = {"step": call.step.identity, "answer": call.verifying.execution_id, "before": before, "after": after}
        self.event(tx, f"step.verified_{found}", said, at, call.execution_id)
        return {"verified": found, "verified_against": call.verifying.execution_id}

    def _draw_edges(self, tx: Transaction, call: Call, outputs: Sequence[Stored]) -> None:
        for place, stored in enumerate(outputs):
            link(tx, stored.version_id, "generated", call.execution_id, idx=place)
        for role, version_id in call.uses():
            link(tx, call.execution_id, "used", version_id, role=role)
            for stored in outputs:
                link(tx, stored.version_id, "derived", version_id, role=role)


def facets_of(call: Call, outputs: Sequence[Stored] = ()) -> dict[str, Any]:
    """Return what the row of a call says besides its columns."""
    key = call.key
    facets: dict[str, Any] = {
        "key": key.digest if key else "",
        "occurrence": call.occurrence,
        "ordinal": call.ordinal,
        "label": call.label,
        "attempt": call.attempt,
        "reason": call.reason,
        "note": key.note if key else "",
        "outputs": [stored.as_json() for stored in outputs],
    }
    if key and key.besides:
        facets["besides"] = dict(key.besides)
    if call.item is not None:
        facets["item"] = call.item
    if call.within:
        facets["within"] = call.within
    if call.usage is not None:
        facets["usage"] = call.usage.as_json()
    return facets
