"""Start, resume, cancel and look up runs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tidewheel.clock import new_id
from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.fingerprint.code import code_digest
from tidewheel.fingerprint.environment import capture_environment
from tidewheel.lineage.claim import claim_execution
from tidewheel.lineage.read import get_execution, list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, finish_execution
from tidewheel.pipelines import picks
from tidewheel.pipelines.drive import Drive, drive
from tidewheel.pipelines.executors.seam import Executor
from tidewheel.pipelines.journal import Boundary, Opening, close_calls, nothing, open_run, reopen_run
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.locks import lives_here, run_lock
from tidewheel.pipelines.parameters import bind
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.records import Run, RunEvent, StepRecord, silent
from tidewheel.pipelines.stored import Shelf, Stored, stored_from
from tidewheel.pipelines.transitions import ALIVE_RUN, RunState, StepState, move_run
from tidewheel.pipelines.tree import decode, encode
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
    on_event: Callable[[RunEvent], None] | None = None,
    on_boundary: Boundary = nothing,
) -> Run:
    """Execute a pipeline, journaled, and return the finished run.

    `parameters` are checked against the pipeline's signature and kept, so that a killed run can go on; large ones
    become artifacts. `cause` says why it was started; `executor` is "inline", "process" or one that the caller
    keeps; `pins` name the dataset version (`name:3` or an id) behind a parameter; `on_event` is told what happens.

    Raises StepFailed or StepTimeout for a step, RunFailed when the body itself raises (the run is recorded as
    FAILED and can be resumed), NotFound and InvalidInput for wrong parameters, StorageUnavailable without room.
    """
    mark_lost(store)
    bound = bind(pipeline, parameters or {})
    run_id = new_id()
    with run_lock(store.home, run_id):
        opening = _opening(store, pipeline, bound, dict(cause or {}), dict(pins or {}))
        journal, run = open_run(store, run_id, opening, on_boundary)
        wanted = Drive(
            pipeline=pipeline,
            journal=journal,
            executor=executor,
            run=run,
            calls=(),
            live=bound,
            tell=on_event or silent,
        )
        load = drive(wanted, shelf_of(store))
    return get_run(store, run_id).with_output(load)


def resume_run(
    store: Store,
    run_id: str,
    pipeline: Pipeline[..., Any],
    *,
    executor: str | Executor = "inline",
    on_event: Callable[[RunEvent], None] | None = None,
    on_boundary: Boundary = nothing,
) -> Run:
    """Go on with a run that was killed, failed or cancelled; steps that are committed are not executed again.

    The body is executed anew and each call is answered by content, so code may have been mended in between: what
    it changes runs again. A run that succeeded is returned as it is.

    Raises AlreadyRunning while its process lives, Conflict when it runs on another machine, InvalidInput for the
    run of another pipeline, NotFound, and whatever `start_run` raises.
    """
    with store.database.reading() as tx:
        found = get_execution(tx, run_id)
    _check_resumable(store, found, pipeline)
    if found.state == RunState.SUCCEEDED:
        return get_run(store, found.id)
    with run_lock(store.home, found.id):
        journal, run, calls = reopen_run(store, found.id, on_boundary)
        wanted = Drive(
            pipeline=pipeline,
            journal=journal,
            executor=executor,
            run=run,
            calls=calls,
            live={},
            tell=on_event or silent,
        )
        load = drive(wanted, shelf_of(store))
    return get_run(store, found.id).with_output(load)


def cancel_run(store: Store, run_id: str, *, reason: str = "") -> Run:
    """Stop a run from outside: its process finds its token stale at its next write and ends.

    Raises NotFound, Conflict for a run that has ended.
    """
    with store.database.transaction() as tx:
        run = get_execution(tx, run_id)
        at = store.clock.now()
        state = move_run(RunState(run.state), RunState.CANCELLED)
        claim_execution(tx, run.id, owner=run.owner, state=state)
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
    found = _run(run, tuple(sorted((_step(store, call) for call in calls), key=lambda step: step.ordinal)))
    output = run.facets.get("output")
    if output is not None:
        shelf = shelf_of(store)
        return found.with_output(lambda: decode(stored_from(output), shelf))
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
    return [_run(run, ()) for run in found if "host" in run.facets]


def shelf_of(store: Store) -> Shelf:
    """Return what executors need to know of a store."""
    return Shelf(blobs=store.blobs, files=store.home / "files")


def _check_resumable(store: Store, run: Execution, pipeline: Pipeline[..., Any]) -> None:
    if run.kind != "run" or "host" not in run.facets:
        raise NotFound("run", run.id, mend="List them with: tidewheel runs")
    if run.job != pipeline.name:
        raise InvalidInput(
            f"The run {run.id} is of the pipeline {run.job!r}, not of {pipeline.name!r}.",
            f"Resume it with the file that has {run.job}.",
        )
    here = lives_here(run.facets["host"], run.facets["home"], store.home)
    if run.state in ALIVE_RUN and not here:
        raise Conflict(
            f"The run {run.id} is held by {run.owner}, whose life cannot be judged from here.",
            "Resume it on that machine, or cancel it first.",
        )


def _opening(
    store: Store,
    pipeline: Pipeline[..., Any],
    bound: Mapping[str, Any],
    cause: Mapping[str, Any],
    pins: Mapping[str, str],
) -> Opening:
    environment = capture_environment()
    shelf = shelf_of(store)
    picked = {name: picks.pick(store, item) for name, item in bound.items() if isinstance(item, Input)}
    kept = {name: _kept(name, item, shelf) for name, item in bound.items() if name not in picked}
    used = {name: pin.version_id for name, pin in picked.items()}
    used |= {name: picks.version_named(store, reference) for name, reference in pins.items()}
    return Opening(
        pipeline=pipeline.name,
        code=code_digest(pipeline).digest,
        environment=environment,
        parameters={name: _readable(item, kept.get(name)) for name, item in bound.items()},
        arguments={name: stored for name, stored in kept.items() if stored.blobs},
        used=used,
        facets={
            "arguments": {name: stored.as_json() for name, stored in kept.items()},
            "pins": {name: pin.as_json() for name, pin in picked.items()},
            "given": dict(pins),
            "cause": dict(cause),
            "host": socket.gethostname(),
            "home": str(store.home.resolve()),
            "resumed": 0,
            "python": environment.python,
            "platform": environment.platform,
            "commit": environment.commit,
            "dirty": environment.dirty,
        },
    )


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


def _run(run: Execution, steps: tuple[StepRecord, ...]) -> Run:
    return Run(
        id=run.id,
        pipeline=run.job,
        state=RunState(run.state),
        parameters=run.parameters,
        pins=run.facets.get("pins", {}),
        cause=run.facets.get("cause", {}),
        steps=steps,
        resumed=run.facets.get("resumed", 0),
        environment=run.environment_digest,
        code=run.code_digest,
        owner=run.owner,
        started=run.started,
        ended=run.ended,
        error=run.error,
    )


def _step(store: Store, call: Execution) -> StepRecord:
    label = str(call.facets["label"])
    log = store.home / "runs" / str(call.parent_id) / f"{label}.log"
    return StepRecord(
        id=call.id,
        name=label,
        identity=call.job,
        state=StepState(call.state),
        ordinal=call.facets["ordinal"],
        attempt=call.facets["attempt"],
        key=call.facets.get("key", ""),
        reason=call.facets.get("reason", ""),
        outputs=tuple(stored_from(record) for record in call.facets.get("outputs", ())),
        log=str(log),
        started=call.started,
        ended=call.ended,
        error=call.error,
    )
