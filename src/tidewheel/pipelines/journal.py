"""The journal of one run: what is done stands in it for good, written by the run's one owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidewheel.clock import new_id
from tidewheel.database.transaction import Transaction
from tidewheel.fingerprint.environment import Environment
from tidewheel.lineage.claim import claim_execution, describe_execution, hold_execution
from tidewheel.lineage.read import get_execution, list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, ensure_entity, finish_execution, link, start_execution
from tidewheel.pipelines import cache
from tidewheel.pipelines.artifacts import record_artifact, record_environment
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.keys import Key
from tidewheel.pipelines.locks import owner_name
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.transitions import ALIVE_RUN, OPEN_STEP, RunState, StepState, move_run, move_step

Boundary = Callable[[str], None]
_MANY = 1_000_000  # more calls than a run has
_OPEN = sorted(OPEN_STEP)


def nothing(boundary: str) -> None:
    """Do nothing at a boundary of the journal; the crash tests kill the process there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a run begins with."""

    pipeline: str  # name
    code: str  # digest of its code closure
    environment: Environment  # what it happens in
    parameters: Mapping[str, Any]  # readable
    facets: Mapping[str, Any]  # arguments, pins, cause, host: what a resume and a reader need
    arguments: Mapping[str, Stored]  # parameters that become artifacts
    used: Mapping[str, str]  # role to the version that the run uses


class Journal:
    """Writes the records of one run; every write is refused once somebody else has claimed the run."""

    def __init__(self, store: Store, run: Execution, on_boundary: Boundary) -> None:
        self.store = store
        self.run_id = run.id
        self.pipeline = run.job
        self._fencing = run.fencing
        self._owner = owner_name()
        self._boundary = on_boundary
        self._codes: set[str] = set()  # code digests whose parts are kept

    def reach(self, boundary: str) -> None:
        """Say that the run has come to a boundary between two writes."""
        self._boundary(boundary)

    def pin(self, role: str, pins: Mapping[str, Any], version_id: str) -> None:
        """Record all pins of the run after the store picked one more input for it."""
        with self._writing("pin") as (tx, _):
            describe_execution(tx, self.run_id, {"pins": dict(pins)})
            link(tx, self.run_id, "used", version_id, role=role[:100])

    def start(self, call: Call, key: Key) -> None:
        """Record that a try of a call begins."""
        move_step(call.state, StepState.RUNNING)
        with self._writing("step.start") as (tx, at):
            self._enter(tx, call, key, StepState.RUNNING, at)

    def commit(self, call: Call, key: Key, outputs: Sequence[Stored], *, reusable: bool) -> tuple[Stored, ...]:
        """Record in one transaction that a call is done: state, artifacts, edges, cache, event."""
        move_step(call.state, StepState.COMMITTED)
        with self._writing("step.commit") as (tx, at):
            names = [
                call.step.identity if call.step.parts is None else f"{call.step.identity}[{place}]"
                for place in range(len(outputs))
            ]
            recorded = tuple(record_artifact(tx, name, stored, at) for name, stored in zip(names, outputs, strict=True))
            self._end(tx, call, StepState.COMMITTED, at, outputs=recorded)
            self._draw_edges(tx, call, recorded)
            if reusable:
                cache.remember(tx, key.digest, call.step.identity, call.execution_id, outputs=recorded, at=at)
            body = {"step": call.step.identity, "attempt": call.attempt, "outputs": [item.digest for item in recorded]}
            self._event(tx, "step.committed", body, at, call.execution_id)
        return recorded

    def answer(self, call: Call, key: Key, outputs: Sequence[Stored]) -> None:
        """Record that a call was answered by an earlier execution."""
        move_step(call.state, StepState.CACHED)
        with self._writing("step.cached") as (tx, at):
            self._enter(tx, call, key, StepState.CACHED, at)
            self._end(tx, call, StepState.CACHED, at, outputs=outputs)
            for place, stored in enumerate(outputs):
                link(tx, call.execution_id, "used", stored.version_id, role="answer", idx=place)

    def conclude(self, call: Call, state: StepState, error: str) -> None:
        """Record that a try ended without outputs."""
        move_step(call.state, state)
        with self._writing("step.end") as (tx, at):
            self._end(tx, call, state, at, error=error)
            body = {"step": call.step.identity, "attempt": call.attempt, "error": error}
            self._event(tx, f"step.{state.value.lower()}", body, at, call.execution_id)

    def skip(self, call: Call) -> None:
        """Record that a call never begins, because an input of it failed."""
        move_step(call.state, StepState.SKIPPED)
        with self._writing("step.skip") as (tx, at):
            self._enter(tx, call, None, StepState.SKIPPED, at)
            self._end(tx, call, StepState.SKIPPED, at, error=call.reason)

    def finish(self, state: RunState, *, error: str | None = None, output: Stored | None = None) -> None:
        """Record how the run ended."""
        move_run(RunState.RUNNING, state)
        with self._writing("run.finish") as (tx, at):
            close_calls(tx, self.run_id, StepState.CANCELLED, "the run ended", at)
            facets: dict[str, Any] = {}
            if output is not None and not output.version_id:
                output = record_artifact(tx, self.pipeline, output, at)
                link(tx, output.version_id, "generated", self.run_id)
            if output is not None:
                facets["output"] = output.as_json()
            finish_execution(tx, self.run_id, at=at, state=state, error=error, facets=facets)
            self._event(tx, f"run.{state.value.lower()}", {"error": error}, at, self.run_id)

    def _enter(self, tx: Transaction, call: Call, key: Key | None, state: StepState, at: datetime) -> None:
        """Write the row of a call, or take up the one that an earlier try left."""
        facets = {
            "key": key.digest if key else "",
            "occurrence": call.occurrence,
            "ordinal": call.ordinal,
            "label": call.label,
            "attempt": call.attempt,
            "reason": call.reason,
            "note": key.note if key else "",
        }
        if call.execution_id:
            claim_execution(tx, call.execution_id, owner=self._owner, state=state, facets=facets)
            return
        call.execution_id = new_id()
        if key and key.code.digest not in self._codes:
            cache.remember_code(tx, key.code)
            self._codes.add(key.code.digest)
        start_execution(
            tx,
            kind="step",
            job=call.step.identity,
            at=at,
            parent_id=self.run_id,
            state=state,
            owner=self._owner,
            fencing=1,
            code_digest=key.code.digest if key else "",
            parameters=key.inputs if key else {},
            facets=facets,
            execution_id=call.execution_id,
        )
        link(tx, call.execution_id, "part_of", self.run_id)

    def _end(
        self,
        tx: Transaction,
        call: Call,
        state: StepState,
        at: datetime,
        *,
        outputs: Sequence[Stored] = (),
        error: str | None = None,
    ) -> None:
        facets = {"outputs": [stored.as_json() for stored in outputs]}
        finish_execution(tx, call.execution_id, at=at, state=state, error=error, facets=facets)

    def _draw_edges(self, tx: Transaction, call: Call, outputs: Sequence[Stored]) -> None:
        for place, stored in enumerate(outputs):
            link(tx, stored.version_id, "generated", call.execution_id, idx=place)
        for role, version_id in call.uses():
            link(tx, call.execution_id, "used", version_id, role=role)
            for stored in outputs:
                link(tx, stored.version_id, "derived", version_id, role=role)

    def _event(self, tx: Transaction, kind: str, body: Any, at: datetime, subject: str) -> None:
        append_event(tx, kind, body, at=at, subject_id=subject, execution_id=self.run_id)

    @contextmanager
    def _writing(self, boundary: str) -> Iterator[tuple[Transaction, datetime]]:
        self._boundary(f"{boundary}:before")
        with self.store.database.transaction() as tx:
            hold_execution(tx, self.run_id, self._fencing, ALIVE_RUN)
            yield tx, self.store.clock.now()
            self._boundary(f"{boundary}:inside")
        self._boundary(f"{boundary}:after")


def open_run(store: Store, run_id: str, opening: Opening, on_boundary: Boundary) -> tuple[Journal, Execution]:
    """Record that a run begins, with its parameters and what it uses; return its journal and its record."""
    on_boundary("run.open:before")
    with store.database.transaction() as tx:
        at = store.clock.now()
        ensure_entity(tx, "pipeline", opening.pipeline, at=at)
        recorded = {
            name: record_artifact(tx, f"{opening.pipeline}[{name}]", stored, at)
            for name, stored in opening.arguments.items()
        }
        arguments = dict(opening.facets["arguments"]) | {name: kept.as_json() for name, kept in recorded.items()}
        run = start_execution(
            tx,
            kind="run",
            job=opening.pipeline,
            at=at,
            state=move_run(RunState.QUEUED, RunState.RUNNING),
            owner=owner_name(),
            fencing=1,
            code_digest=opening.code,
            environment_digest=opening.environment.digest,
            parameters=opening.parameters,
            facets={**opening.facets, "arguments": arguments},
            execution_id=run_id,
        )
        link(tx, run_id, "used", record_environment(tx, opening.environment, at), role="environment")
        for role, version_id in opening.used.items():
            link(tx, run_id, "used", version_id, role=role[:100])
        for name, kept in recorded.items():
            link(tx, run_id, "used", kept.version_id, role=name[:100])
            if name in opening.used:
                link(tx, kept.version_id, "derived", opening.used[name], role=name[:100])
        cause = opening.facets["cause"].get("execution_id")
        if cause:
            link(tx, run_id, "triggered_by", cause)
        append_event(
            tx, "run.started", {"cause": opening.facets["cause"]}, at=at, subject_id=run_id, execution_id=run_id
        )
        on_boundary("run.open:inside")
    on_boundary("run.open:after")
    return Journal(store, run, on_boundary), run


def reopen_run(store: Store, run_id: str, on_boundary: Boundary) -> tuple[Journal, Execution, list[Execution]]:
    """Claim a run that ended badly or whose owner is dead; return its journal, its record and its calls so far."""
    on_boundary("run.reopen:before")
    with store.database.transaction() as tx:
        at = store.clock.now()
        run = get_execution(tx, run_id)
        state = RunState(run.state)
        if state in ALIVE_RUN:  # its lock is ours, so its owner is dead
            lose(tx, run, at)
            state = RunState.LOST
        facets = {"resumed": int(run.facets.get("resumed", 0)) + 1}
        run = claim_execution(tx, run_id, owner=owner_name(), state=move_run(state, RunState.RUNNING), facets=facets)
        append_event(tx, "run.resumed", {"token": run.fencing}, at=at, subject_id=run_id, execution_id=run_id)
        calls = list_executions(tx, "step", parent_id=run_id, limit=_MANY)
        on_boundary("run.reopen:inside")
    on_boundary("run.reopen:after")
    return Journal(store, run, on_boundary), run, calls


def lose(tx: Transaction, run: Execution, at: datetime) -> None:
    """Record that the process of a run is dead, and that what it was doing is lost."""
    reason = f"its process ({run.owner}) died"
    move_run(RunState(run.state), RunState.LOST)
    close_calls(tx, run.id, StepState.LOST, reason, at)
    finish_execution(tx, run.id, at=at, state=RunState.LOST, error=reason)
    append_event(tx, "run.lost", {"owner": run.owner}, at=at, subject_id=run.id, execution_id=run.id)


def close_calls(tx: Transaction, run_id: str, state: StepState, reason: str, at: datetime) -> None:
    """Record that the calls of a run which have not ended never will."""
    for call in list_executions(tx, "step", parent_id=run_id, state=_OPEN, limit=_MANY):
        finish_execution(tx, call.id, at=at, state=move_step(StepState(call.state), state), error=reason)
