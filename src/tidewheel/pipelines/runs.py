"""Start, resume, cancel and look up runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidewheel.clock import new_id
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.fingerprint.code import code_digest
from tidewheel.fingerprint.environment import capture_environment
from tidewheel.fingerprint.machine import numeric_variables
from tidewheel.lineage.claim import claim_execution
from tidewheel.lineage.read import get_execution, list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, finish_execution
from tidewheel.pipelines import picks
from tidewheel.pipelines.capture import Capture, seeds_in
from tidewheel.pipelines.drive import Drive, drive
from tidewheel.pipelines.executors.crew import check_executor
from tidewheel.pipelines.executors.seam import Executor
from tidewheel.pipelines.flights import land_all
from tidewheel.pipelines.foreseen import check_secrets
from tidewheel.pipelines.journal import Boundary, Opening, close_calls, nothing, open_run, reopen_run
from tidewheel.pipelines.leases import locked_lease, revoke
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.locks import place_at, run_lock
from tidewheel.pipelines.parameters import bind
from tidewheel.pipelines.patience import Patience
from tidewheel.pipelines.payload import load_payload
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.prior import again_of
from tidewheel.pipelines.records import Run, RunEvent, StepRecord, silent
from tidewheel.pipelines.stored import Shelf, Stored, stored_from
from tidewheel.pipelines.telling import run_of, step_of
from tidewheel.pipelines.transitions import RunState, StepState, move_run
from tidewheel.pipelines.tree import encode
from tidewheel.pipelines.wish import Input

__all__ = ["Run", "RunEvent", "StepRecord", "cancel_run", "get_run", "list_runs", "resume_run", "start_run"]

_MANY = 1_000_000  # more calls than a run has


def start_run(
    store: Store,
    pipeline: Pipeline[..., Any],
    parameters: Mapping[str, Any] | None = None,
    *,
    cause: Mapping[str, Any] | None = None,
    executor: str | Executor = "inline",
    pins: Mapping[str, str] | None = None,
    queued: str = "",
    on_event: Callable[[RunEvent], None] | None = None,
    on_boundary: Boundary = nothing,
    leave: bool = False,
) -> Run:
    """Execute a pipeline, journaled, and return the finished run.

    `parameters` are checked against the pipeline's signature and kept, so that a killed run can go on; large ones
    become artifacts. `cause` says why it was started; `executor` is "inline", "process" or one that the caller
    keeps; `pins` name the dataset version (`name:3` or an id) behind a parameter; `queued` is the id of a QUEUED run
    to claim; `on_event` is told what happens.

    With `leave` a run that waits for nothing but an approval is left and returned as WAITING: any process may go on.

    Raises StepFailed or StepTimeout for a step, RunFailed when the body itself raises (the run is recorded as
    FAILED and can be resumed), NotFound and InvalidInput for wrong parameters, StorageUnavailable without room,
    Conflict for a queued run that somebody else has claimed.
    """
    run_id = queued or new_id()
    patience = patience_of(store, pipeline, run_id, on_event or silent)
    patience.keep(lambda: mark_lost(store))
    bound = bind(pipeline, parameters or {})
    check_secrets(pipeline, store.secrets)
    if isinstance(executor, str):
        check_executor(executor)
    with run_lock(store.home, run_id):
        opening = patience.keep(lambda: _opening(store, pipeline, bound, dict(cause or {}), dict(pins or {})))
        opening = replace(opening, queued=bool(queued))
        journal, run = open_run(store, run_id, opening, on_boundary, patience)
        wanted = Drive(
            pipeline=pipeline,
            journal=journal,
            executor=executor,
            run=run,
            calls=(),
            live=bound,
            tell=on_event or silent,
            leaves=leave,
        )
        return go(wanted)


def resume_run(
    store: Store,
    run_id: str,
    pipeline: Pipeline[..., Any],
    *,
    executor: str | Executor = "inline",
    on_event: Callable[[RunEvent], None] | None = None,
    on_boundary: Boundary = nothing,
    leave: bool = False,
) -> Run:
    """Go on with a run that was killed, failed or cancelled; steps that are committed are not executed again.

    The body is executed anew and each call is answered by content, so code may have been mended in between: what
    it changes runs again. A run that succeeded is returned as it is.

    Raises AlreadyRunning while its process lives (here by its lock, elsewhere by its lease), InvalidInput for the run
    of another pipeline, NotFound, and whatever `start_run` raises.
    """
    found = known_run(store, run_id)
    check_pipeline(found, pipeline)
    if isinstance(executor, str):
        check_executor(executor)
    if found.state == RunState.SUCCEEDED:
        return get_run(store, found.id)
    patience = patience_of(store, pipeline, found.id, on_event or silent)
    with run_lock(store.home, found.id):
        journal, run, calls = reopen_run(store, found.id, on_boundary, patience)
        wanted = Drive(
            pipeline=pipeline,
            journal=journal,
            executor=executor,
            run=run,
            calls=calls,
            live={},
            tell=on_event or silent,
            leaves=leave,
            again=again_of(store, run),
        )
        return go(wanted)


def cancel_run(store: Store, run_id: str, *, reason: str = "") -> Run:
    """Stop a run from outside, from any process or machine.

    Its process looks every second whether the run is still its own: then it ends its children and itself, with
    StaleOwner, and nothing more of it is kept.

    Raises NotFound, Conflict for a run that has ended.
    """
    known = known_run(store, run_id)
    with store.database.transaction() as tx:
        locked_lease(tx, known.id)
        run = get_execution(tx, known.id)
        at = store.clock.now()
        state = move_run(RunState(run.state), RunState.CANCELLED)
        claim_execution(tx, run.id, owner=run.owner, state=state)
        revoke(tx, run.id)
        land_all(tx, run.id)
        close_calls(tx, run.id, StepState.CANCELLED, reason or "the run was cancelled", at)
        finish_execution(tx, run.id, at=at, state=state, error=reason or "cancelled")
        append_event(tx, "run.cancelled", {"reason": reason}, at=at, subject_id=run.id, execution_id=run.id)
    return get_run(store, run.id)


def get_run(store: Store, run_id: str) -> Run:
    """Return a run with its steps, by its id or enough of it; raises NotFound."""
    with store.database.reading() as tx:
        run = get_execution(tx, run_id)
        if run.kind == "step" and run.parent_id:
            run = get_execution(tx, run.parent_id)
        calls = list_executions(tx, "step", parent_id=run.id, limit=_MANY)
    if run.kind != "run":
        raise NotFound("run", run_id, mend="List them with: tidewheel runs")
    found = run_of(run, tuple(sorted((step_of(store, call) for call in calls), key=lambda step: step.ordinal)))
    output = run.facets.get("output")
    if output is not None:
        shelf = shelf_of(store)
        return found.with_output(lambda: load_payload(store, stored_from(output), shelf))
    return found


def list_runs(store: Store, *, pipeline: str | None = None, state: str | None = None, limit: int = 50) -> list[Run]:
    """Return runs without their steps, newest first; those whose process died are marked LOST on the way.

    Raises InvalidInput for a state that does not exist.
    """
    if state is not None and state not in set(RunState):
        raise InvalidInput(f"{state!r} is not the state of a run.", f"Use one of {', '.join(RunState)}.")
    mark_lost(store)
    with store.database.reading() as tx:
        found = list_executions(tx, "run", job=pipeline, state=state, limit=limit)
    return [run_of(run, ()) for run in found if "host" in run.facets]


def shelf_of(store: Store) -> Shelf:
    """Return what executors need to know of a store."""
    return Shelf(blobs=store.blobs, files=store.home / "files", patience=store.storage_patience)


def known_run(store: Store, run_id: str) -> Execution:
    """Return the record of a run by its id, or enough of it; raises NotFound."""
    with store.database.reading() as tx:
        run = get_execution(tx, run_id)
    if run.kind != "run" or "host" not in run.facets:
        raise NotFound("run", run.id, mend="List them with: tidewheel runs")
    return run


def patience_of(store: Store, pipeline: Pipeline[..., Any], run_id: str, tell: Callable[[RunEvent], None]) -> Patience:
    """Return the patience of a run with its storage; who follows the run is told when it waits."""

    def told(text: str) -> None:
        tell(
            RunEvent(
                run_id=run_id,
                pipeline=pipeline.name,
                step="",
                execution_id="",
                state=RunState.WAITING,
                detail=text,
                at=store.clock.now(),
            )
        )

    return Patience(store.storage_patience, told)


def go(wanted: Drive) -> Run:
    """Execute a run that is claimed, keep its lease alive meanwhile, and return its record."""
    fence = wanted.journal.fence
    with fence.keeper.keeping():
        load = drive(wanted, shelf_of(fence.store))
    found = fence.patience.keep(lambda: get_run(fence.store, wanted.journal.run_id))
    return found if load is None else found.with_output(load)


def check_pipeline(run: Execution, pipeline: Pipeline[..., Any]) -> None:
    """Raise InvalidInput for the run of another pipeline."""
    if run.job != pipeline.name:
        raise InvalidInput(
            f"The run {run.id} is of the pipeline {run.job!r}, not of {pipeline.name!r}.",
            f"Resume it with the file that has {run.job}.",
        )


def _opening(
    store: Store,
    pipeline: Pipeline[..., Any],
    bound: Mapping[str, Any],
    cause: Mapping[str, Any],
    pins: Mapping[str, str],
) -> Opening:
    begun = Beginning(store, pipeline)
    shelf = shelf_of(store)
    picked = {name: picks.pick(store, item) for name, item in bound.items() if isinstance(item, Input)}
    kept = {name: _kept(name, item, shelf) for name, item in bound.items() if name not in picked}
    used = {name: pin.version_id for name, pin in picked.items()}
    used |= {name: picks.version_named(store, reference) for name, reference in pins.items()}
    facets = begun.facets()
    return Opening(
        pipeline=pipeline.name,
        code=begun.code,
        environment=begun.environment,
        parameters={name: _readable(item, kept.get(name)) for name, item in bound.items()},
        arguments={name: stored for name, stored in kept.items() if stored.blobs},
        used=used,
        facets={
            "arguments": {name: stored.as_json() for name, stored in kept.items()},
            "pins": {name: pin.as_json() for name, pin in picked.items()},
            "given": dict(pins),
            "cause": dict(cause),
            "seeds": seeds_in(bound),
            **facets,
        },
    )


class Beginning:
    """What every run records about where it begins and with which code; git looks while the inputs are kept."""

    def __init__(self, store: Store, pipeline: Pipeline[..., Any]) -> None:
        self._store = store
        self._capture = Capture(pipeline.__wrapped__, store.home)
        self.environment = capture_environment()
        self.code = code_digest(pipeline).digest

    def facets(self) -> dict[str, Any]:
        """Return the facets of a run that do not depend on its parameters."""
        captured = self._capture.keep(self._store.blobs, self.code)
        return {
            **place_at(self._store.home).facets(),
            "resumed": 0,
            "python": self.environment.python,
            "platform": self.environment.platform,
            "commit": captured.commit,
            "dirty": captured.dirty,
            "captured": captured.digest,
            "variables": dict(numeric_variables()),
        }


def _kept(name: str, item: Any, shelf: Shelf) -> Stored:
    try:
        return encode(item, shelf)
    except InvalidInput as error:
        raise InvalidInput(f"The parameter {name!r} cannot be kept: {error.what}", error.mend) from error


def _readable(item: Any, stored: Stored | None) -> Any:
    if stored is None:
        return repr(item)
    if isinstance(item, bool | int | float | str | None):
        return item
    return str(item) if isinstance(item, Path) else f"{type(item).__name__} {stored.digest[:19]}"
