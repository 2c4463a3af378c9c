"""Rows of the graph as the records of runs and steps that a reader gets."""

from __future__ import annotations

from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.records import Run, StepRecord
from tidewheel.pipelines.stored import stored_from
from tidewheel.pipelines.transitions import RunState, StepState

_TOLD_ELSEWHERE = frozenset({"arguments", "pins", "cause", "resumed"})  # facets that are fields of a run, or large


def run_of(run: Execution, steps: tuple[StepRecord, ...]) -> Run:
    """Turn the row of a run into its record."""
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
        facts={name: fact for name, fact in run.facets.items() if name not in _TOLD_ELSEWHERE},
    )


def step_of(store: Store, call: Execution) -> StepRecord:
    """Turn the row of a call into its record."""
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
        usage=call.facets.get("usage"),
        inputs=call.parameters,
    )
