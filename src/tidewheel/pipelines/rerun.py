"""Run a run again from a step on: what comes before is answered by the journal of the old run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tidewheel.clock import new_id
from tidewheel.errors import Conflict, NotFound
from tidewheel.lineage.read import list_executions, list_used
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.drive import Drive
from tidewheel.pipelines.executors.seam import Executor
from tidewheel.pipelines.journal import Boundary, Opening, nothing, open_run
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.locks import run_lock
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.prior import RERUN, again_of
from tidewheel.pipelines.records import Run, RunEvent, silent
from tidewheel.pipelines.runs import Beginning, check_pipeline, go, known_run, patience_of
from tidewheel.pipelines.transitions import ALIVE_RUN

_MANY = 1_000_000  # more calls than a run has


def rerun_run(
    store: Store,
    run_id: str,
    pipeline: Pipeline[..., Any],
    *,
    start: str = "",
    reason: str = "",
    executor: str | Executor = "inline",
    on_event: Callable[[RunEvent], None] | None = None,
    on_boundary: Boundary = nothing,
) -> Run:
    """Execute a run again as a new one, linked to it, with the same parameters and pinned inputs.

    `start` names a step (or one call of it, by its label: fit-2). It is executed, and so is everything that depends on
    it through its inputs. All other calls are answered by the journal of the old run, also those that are never cached
    or whose cache entry is gone; what the old run does not have, or has with other code, is executed. Without `start`
    every call is executed.

    Raises NotFound for an unknown run or step, with near names, Conflict while the run goes on, and what `start_run`
    raises.
    """
    tell = on_event or silent
    mark_lost(store)
    old = known_run(store, run_id)
    check_pipeline(old, pipeline)
    if old.state in ALIVE_RUN:
        raise Conflict(f"The run {old.id} is {old.state}.", "Wait for its end, or cancel it: tidewheel cancel")
    _check_start(store, old, start)
    new = new_id()
    cause = {"kind": RERUN, "execution_id": old.id, "from": start, "reason": reason or "asked for"}
    patience = patience_of(store, pipeline, new, tell)
    with run_lock(store.home, new):
        journal, run = open_run(store, new, _opening(store, old, pipeline, cause), on_boundary, patience)
        wanted = Drive(
            pipeline=pipeline,
            journal=journal,
            executor=executor,
            run=run,
            calls=(),
            live={},
            tell=tell,
            again=again_of(store, run),
        )
        return go(wanted)


def _check_start(store: Store, old: Execution, start: str) -> None:
    if not start:
        return
    with store.database.reading() as tx:
        calls = list_executions(tx, "step", parent_id=old.id, limit=_MANY)
    labels = {str(call.facets["label"]) for call in calls}
    names = {call.job.rpartition(".")[2] for call in calls}
    if start not in labels | names | {call.job for call in calls}:
        raise NotFound("step", start, labels | names, f"These are the steps of the run {old.id[-12:]}.")


def _opening(store: Store, old: Execution, pipeline: Pipeline[..., Any], cause: Mapping[str, Any]) -> Opening:
    """Return what the new run begins with: the old one's parameters and pins, today's code and environment."""
    begun = Beginning(store, pipeline)
    with store.database.reading() as tx:
        used = list_used(tx, old.id)
    kept = {name: old.facets[name] for name in ("arguments", "pins", "given", "seeds") if name in old.facets}
    return Opening(
        pipeline=pipeline.name,
        code=begun.code,
        environment=begun.environment,
        parameters=old.parameters,
        arguments={},
        used={role: version for role, version in used.items() if role != "environment"},
        facets={**begun.facets(), **kept, "cause": dict(cause)},
    )
