"""The journal of one run: what is done stands in it for good, written by the run's one owner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from tidewheel.clock import new_id
from tidewheel.database.transaction import Transaction
from tidewheel.errors import AlreadyRunning, Conflict
from tidewheel.fingerprint.environment import Environment
from tidewheel.lineage.claim import claim_execution, describe_execution, take_queued
from tidewheel.lineage.read import get_execution, list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, ensure_entity, finish_execution, link, start_execution
from tidewheel.pipelines import cache
from tidewheel.pipelines.artifacts import record_artifact, record_environment
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.entries import Done, Entries
from tidewheel.pipelines.fence import Fence, claim_once
from tidewheel.pipelines.flights import Flight, announce, land, land_all
from tidewheel.pipelines.leases import Hold, database_micros, find_lease, grant, locked_lease, new_hold, revoke
from tidewheel.pipelines.locks import owner_name, place_at
from tidewheel.pipelines.patience import Patience
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.transitions import ALIVE_RUN, OPEN_STEP, RunState, StepState, move_run, move_step

T = TypeVar("T")
Boundary = Callable[[str], None]
_MANY = 1_000_000  # more calls than a run has
_OPEN = sorted(OPEN_STEP)
_ANSWERS = 200  # answers from the cache that are recorded in one transaction at most


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
    queued: bool = False  # whether the run stands in the queue already


class Journal:
    """Writes the records of one run; every write is refused once somebody else has claimed the run.

    The bodies of writes may be executed more than once, see `Fence`: what they change in memory is set outside of them.
    """

    def __init__(self, fence: Fence, run: Execution, on_boundary: Boundary) -> None:
        self.store = fence.store
        self.fence = fence
        self.run_id = run.id
        self.pipeline = run.job
        self.state = RunState.RUNNING  # where the run stands
        self.entries = Entries(run_id=run.id, owner=owner_name())
        self._boundary = on_boundary
        self._codes: set[str] = set()  # code digests whose parts are kept
        self._answered: list[Done] = []  # answers that go with the next write: lost, they are found again

    def reach(self, boundary: str) -> None:
        """Say that the run has come to a boundary between two writes."""
        self._boundary(boundary)

    def check(self) -> None:
        """Raise StaleOwner once the run is somebody else's, as far as is known without asking."""
        self.fence.keeper.check()

    def pin(self, role: str, pins: Mapping[str, Any], version_id: str) -> None:
        """Record all pins of the run after the store picked one more input for it."""

        def body(tx: Transaction, at: datetime) -> None:
            del at
            describe_execution(tx, self.run_id, {"pins": dict(pins)})
            link(tx, self.run_id, "used", version_id, role=role[:100])

        self.write("pin", body)

    def start(self, call: Call) -> Flight | None:
        """Record that a try of a call begins; return who executes the same at this moment, and record nothing then."""
        key = call.key
        if key is None:
            raise Conflict(f"The call {call.label} has no key.", "Report this as a defect.")
        move_step(call.state, StepState.RUNNING)
        call.execution_id = call.execution_id or new_id()

        def body(tx: Transaction, at: datetime) -> Flight | None:
            self._write_answers(tx, at)
            if key.reusable and call.verifying is None and not call.alone:
                taken = announce(tx, key.digest, call.execution_id, self.run_id)
                if taken is not None:
                    return taken
                if cache.answered_by(tx, key.digest) != call.seen_answer:
                    land(tx, key.digest, self.run_id)
                    return Flight(execution_id="", run_id="")
            if key.code.digest not in self._codes:
                cache.remember_code(tx, key.code)
            self.entries.enter(tx, call, StepState.RUNNING, at)
            return None

        taken = self.write("step.start", body)
        self._wrote_answers()
        if taken is None:
            self._codes.add(key.code.digest)
            call.recorded = True
        return taken

    def commit(self, done: Sequence[Done]) -> list[tuple[Stored, ...]]:
        """Record in one transaction that calls are done; return their outputs with their versions."""
        for each in done:
            move_step(each.call.state, StepState.COMMITTED)

        def body(tx: Transaction, at: datetime) -> dict[str, tuple[Stored, ...]]:
            self._write_answers(tx, at)
            recorded = {}
            for each in sorted(done, key=_lock_order):
                recorded[each.call.execution_id] = self.entries.commit(tx, each, at)
                self._land(tx, each.call)
            return recorded

        recorded = self.write("step.commit", body)
        self._wrote_answers()
        return [recorded[each.call.execution_id] for each in done]

    def answer(self, done: Done) -> None:
        """Record that a call was answered by an earlier execution, together with the next write or `flush`."""
        move_step(done.call.state, StepState.CACHED)
        done.call.execution_id = done.call.execution_id or new_id()
        if len(self._answered) >= _ANSWERS:  # before it is taken up: what is recorded is let go of
            self.flush()
        self._answered.append(done)

    def flush(self) -> None:
        """Record the answers that are still in memory."""
        if self._answered:
            self.write("step.cached", self._write_answers)
            self._wrote_answers()

    def conclude(self, call: Call, state: StepState, error: str) -> None:
        """Record that a try ended without outputs."""
        move_step(call.state, state)

        def body(tx: Transaction, at: datetime) -> None:
            self.entries.conclude(tx, call, state, error, at)
            self._land(tx, call)

        self.write("step.end", body)

    def skip(self, calls: Sequence[Call]) -> None:
        """Record that calls never begin, because an input of them failed."""
        for call in calls:
            move_step(call.state, StepState.SKIPPED)
            call.execution_id = call.execution_id or new_id()

        def body(tx: Transaction, at: datetime) -> None:
            for call in calls:
                self.entries.enter(tx, call, StepState.SKIPPED, at, error=call.reason)

        self.write("step.skip", body)
        for call in calls:
            call.recorded = True

    def describe(self, call: Call, facets: Mapping[str, Any]) -> None:
        """Record something about a call that goes on."""
        self.write("step.describe", lambda tx, _: describe_execution(tx, call.execution_id, facets))

    def finish(self, state: RunState, *, error: str | None = None, output: Stored | None = None) -> None:
        """Record how the run ended."""
        move_run(self.state, state)

        def body(tx: Transaction, at: datetime) -> None:
            self._write_answers(tx, at)
            land_all(tx, self.run_id)
            close_calls(tx, self.run_id, StepState.CANCELLED, "the run ended", at)
            kept = output
            if kept is not None and not kept.version_id:
                kept = record_artifact(tx, self.pipeline, kept, at)
                link(tx, kept.version_id, "generated", self.run_id)
            facets = {} if kept is None else {"output": kept.as_json()}
            finish_execution(tx, self.run_id, at=at, state=state, error=error, facets=facets)
            self.entries.event(tx, f"run.{state.value.lower()}", {"error": error}, at, self.run_id)

        self.write("run.finish", body)
        self.state = state

    def write(self, boundary: str, body: Callable[[Transaction, datetime], T]) -> T:
        """Execute a body in one transaction of the run's owner."""
        self._boundary(f"{boundary}:before")

        def fenced(tx: Transaction) -> T:
            done = body(tx, self.store.clock.now())
            self._boundary(f"{boundary}:inside")
            return done

        done = self.fence.write(fenced)
        self._boundary(f"{boundary}:after")
        return done

    def _land(self, tx: Transaction, call: Call) -> None:
        if call.key is not None and call.key.reusable and call.verifying is None:
            land(tx, call.key.digest, self.run_id)

    def _write_answers(self, tx: Transaction, at: datetime) -> None:
        codes = [done.call.key.code for done in self._answered if done.call.key is not None]
        for code in {code.digest: code for code in codes if code.digest not in self._codes}.values():
            cache.remember_code(tx, code)
        for done in self._answered:
            self.entries.answer(tx, done, at)

    def _wrote_answers(self) -> None:
        for done in self._answered:
            done.call.recorded = True
            done.call.release()
        self._answered.clear()


def _lock_order(done: Done) -> str:
    """Name what a commit locks: two runs that commit several steps at once take the same order."""
    return done.call.step.identity


def open_run(
    store: Store, run_id: str, opening: Opening, on_boundary: Boundary, patience: Patience
) -> tuple[Journal, Execution]:
    """Record that a run begins, with its parameters and what it uses; return its journal and its record."""
    hold = new_hold(run_id, store.lease_seconds)

    def begin(tx: Transaction) -> Execution:
        if _granted(tx, hold):
            return get_execution(tx, run_id)
        grant(tx, hold, store.clock)
        run = _begin(tx, run_id, opening, store.clock.now())
        on_boundary("run.open:inside")
        return run

    on_boundary("run.open:before")
    run = claim_once(store, hold, patience, begin)
    on_boundary("run.open:after")
    return Journal(Fence(store, hold, run.fencing, patience), run, on_boundary), run


def _begin(tx: Transaction, run_id: str, opening: Opening, at: datetime) -> Execution:
    if opening.queued:
        take_queued(tx, run_id)
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
    append_event(tx, "run.started", {"cause": opening.facets["cause"]}, at=at, subject_id=run_id, execution_id=run_id)
    return run


def reopen_run(
    store: Store, run_id: str, on_boundary: Boundary, patience: Patience
) -> tuple[Journal, Execution, list[Execution]]:
    """Claim a run that ended badly or whose owner is dead; return its journal, its record and its calls so far.

    The caller holds the run's lock in this home, so an owner in this home is dead. Any other is as alive as its lease.

    Raises AlreadyRunning while somebody's lease lasts.
    """
    hold = new_hold(run_id, store.lease_seconds)

    def claim(tx: Transaction) -> Execution:
        run = get_execution(tx, run_id)
        if _granted(tx, hold):
            return run
        at = store.clock.now()
        state = RunState(run.state)
        place = place_at(store.home)
        if state in ALIVE_RUN and run.owner:  # one without an owner was left waiting, on purpose
            if not place.is_of(run.facets):
                check_run_out(tx, run, store)
            lose(tx, run, at)
            state = RunState.LOST
        facets = {"resumed": int(run.facets.get("resumed", 0)) + 1} | place.facets()
        run = claim_execution(tx, run_id, owner=owner_name(), state=move_run(state, RunState.RUNNING), facets=facets)
        grant(tx, hold, store.clock)
        append_event(tx, "run.resumed", {"token": run.fencing}, at=at, subject_id=run_id, execution_id=run_id)
        on_boundary("run.reopen:inside")
        return run

    on_boundary("run.reopen:before")
    run = claim_once(store, hold, patience, claim)
    on_boundary("run.reopen:after")
    fence = Fence(store, hold, run.fencing, patience)
    calls = fence.read(lambda tx: list_executions(tx, "step", parent_id=run_id, limit=_MANY))
    return Journal(fence, run, on_boundary), run, calls


def _granted(tx: Transaction, hold: Hold) -> bool:
    """Say whether a claim was kept already, its answer being lost on the way."""
    lease = find_lease(tx, hold.subject)
    return lease is not None and lease.holder == hold.holder


def check_run_out(tx: Transaction, run: Execution, store: Store) -> None:
    """Raise AlreadyRunning while the lease of a run's owner elsewhere lasts."""
    lease = locked_lease(tx, run.id)
    left = (lease.until - database_micros(tx, store.clock)) / 1_000_000
    if not lease.holder:  # begun by an older tidewheel, which gave no lease
        raise AlreadyRunning(
            f"The run {run.id} is held by {run.owner}, whose life cannot be judged from here.",
            "Resume it on that machine, or cancel it first: tidewheel cancel",
        )
    if left > 0:
        raise AlreadyRunning(
            f"The run {run.id} is held by {run.owner}, whose lease lasts {left:.0f} s more.",
            "Wait for it, or cancel it first: tidewheel cancel. A dead owner's lease runs out by itself.",
        )


def lose(tx: Transaction, run: Execution, at: datetime) -> None:
    """Record that the process of a run is dead, and that what it was doing is lost."""
    reason = f"its process ({run.owner}) died"
    move_run(RunState(run.state), RunState.LOST)
    revoke(tx, run.id)
    land_all(tx, run.id)
    close_calls(tx, run.id, StepState.LOST, reason, at)
    finish_execution(tx, run.id, at=at, state=RunState.LOST, error=reason)
    append_event(tx, "run.lost", {"owner": run.owner}, at=at, subject_id=run.id, execution_id=run.id)


def close_calls(tx: Transaction, run_id: str, state: StepState, reason: str, at: datetime) -> None:
    """Record that the calls of a run which have not ended never will."""
    for call in list_executions(tx, "step", parent_id=run_id, state=_OPEN, limit=_MANY):
        finish_execution(tx, call.id, at=at, state=move_step(StepState(call.state), state), error=reason)
