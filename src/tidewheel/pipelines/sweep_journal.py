"""The execution of a sweep in the graph: what it is known by, and which runs belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidewheel.errors import Unhashable
from tidewheel.fingerprint.value import value_digest
from tidewheel.lineage.claim import claim_execution
from tidewheel.lineage.read import list_executions
from tidewheel.lineage.rows import execution_of
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, finish_execution, start_execution
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.locks import owner_name, place_at
from tidewheel.pipelines.records import Run
from tidewheel.pipelines.telling import run_of
from tidewheel.pipelines.transitions import RunState

KIND = "sweep"
_BACK = 50  # newest sweeps of a pipeline among which an unfinished one is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A sweep that is being worked on."""

    id: str  # its execution
    started: datetime  # when it was first begun


def begin(
    store: Store,
    pipeline: str,
    grid: Mapping[str, Sequence[Any]],
    points: Sequence[Mapping[str, Any]],
    bound: Mapping[str, Any],
) -> Begun:
    """Return the unfinished sweep of the same pipeline, grid and shared parameters, or begin one.

    `bound` are all parameters of a point; those of the grid do not count in it.
    """
    shared = {name: item for name, item in bound.items() if name not in grid}
    key = _key(pipeline, grid, shared)
    with store.database.transaction() as tx:
        same = [item for item in list_executions(tx, KIND, job=pipeline, limit=_BACK) if item.facets["key"] == key]
        # One that is done is not gone on with: once more means anew, with the cache's help.
        if key and same and same[0].state != RunState.SUCCEEDED:
            claim_execution(tx, same[0].id, owner=owner_name(), state=RunState.RUNNING)
            return Begun(id=same[0].id, started=same[0].started)
        at = store.clock.now()
        sweep = start_execution(
            tx,
            kind=KIND,
            job=pipeline,
            at=at,
            state=RunState.RUNNING,
            owner=owner_name(),
            fencing=1,
            parameters={name: [repr(value) for value in values] for name, values in grid.items()},
            facets={"key": key, "points": len(points), **place_at(store.home).facets()},
        )
        append_event(tx, "sweep.started", {"points": len(points)}, at=at, subject_id=sweep.id, execution_id=sweep.id)
    return Begun(id=sweep.id, started=sweep.started)


def finish(store: Store, sweep_id: str, state: RunState, *, failed: int) -> None:
    """Record how a sweep ended."""
    with store.database.transaction() as tx:
        at = store.clock.now()
        error = f"{failed} points failed" if failed else None
        finish_execution(tx, sweep_id, at=at, state=state, error=error)
        body = {"failed": failed}
        append_event(tx, f"sweep.{state.value.lower()}", body, at=at, subject_id=sweep_id, execution_id=sweep_id)


def runs_of(store: Store, sweep_id: str) -> dict[int, Run]:
    """Return the newest run of each point of a sweep, without its steps; dead ones are marked LOST on the way."""
    mark_lost(store)
    sql = (
        "SELECT x.* FROM edge e JOIN execution x ON x.id = e.src"
        " WHERE e.dst = :sweep AND e.relation = 'triggered_by' AND x.kind = 'run' ORDER BY x.started, x.id"
    )
    with store.database.reading() as tx:
        found = [run_of(execution_of(row), ()) for row in tx.rows(sql, sweep=sweep_id)]
    return {int(run.cause["point"]): run for run in found if "point" in run.cause}


def _key(pipeline: str, grid: Mapping[str, Sequence[Any]], shared: Mapping[str, Any]) -> str:
    """Return what the same sweep is known by; "" where a parameter has no content, so that it is always a new one."""
    try:
        return value_digest([pipeline, {name: list(values) for name, values in grid.items()}, dict(shared)])
    except Unhashable:
        return ""
