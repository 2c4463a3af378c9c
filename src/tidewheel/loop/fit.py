"""Run the loop's pipeline once for each part of a retraining, whatever dies in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from tidewheel.errors import AlreadyRunning, InvalidInput, StepFailed
from tidewheel.lineage.store import Store
from tidewheel.loop.loop import Loop
from tidewheel.loop.state import Running
from tidewheel.models.model import Model
from tidewheel.pipelines.approvals import can_go_on
from tidewheel.pipelines.records import Run
from tidewheel.pipelines.runs import get_run, list_runs, resume_run, start_run

Part = Literal["candidate", "refit"]
SEARCHED = 200  # newest runs among which that of a part is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a run of the pipeline made."""

    run: Run  # finished
    model: Model  # its output


def fit(store: Store, loop: Loop, running: Running, rows: pl.DataFrame, *, part: Part, executor: str) -> Fitted:
    """Run the pipeline on rows and return its model; a run that was begun for this part before is gone on with.

    A run that had succeeded is not repeated, one whose process died is resumed, so that there is one run for each
    part of a retraining. Raises what `start_run` raises, AlreadyRunning while it waits for people, and InvalidInput
    when the pipeline returns no Model.
    """
    cause = {
        "kind": running.trigger,
        "key": running.key,
        "part": part,
        "reason": running.reason,
        "model": loop.model,
    }
    known = _known(store, loop, running.key, part)
    if known is None:
        given = {"rows": rows, **loop.parameters}
        pins = {"rows": running.dataset}
        run = start_run(store, loop.pipeline, given, cause=cause, pins=pins, executor=executor, leave=True)
    elif known.state == "SUCCEEDED":
        run = get_run(store, known.id)
    elif known.state in ("FAILED", "CANCELLED"):
        raise StepFailed(
            f"The run {known.id} {known.state.lower()}: {known.error}",
            f"See why: tidewheel why {known.id}",
            run_id=known.id,
        )
    elif known.state == "WAITING" and not can_go_on(store, known.id):
        run = known
    else:
        run = resume_run(store, known.id, loop.pipeline, executor=executor, leave=True)
    if run.state == "WAITING":
        raise AlreadyRunning(f"The run {run.id} waits for an answer.", f"Answer it: tidewheel approve {run.id}")
    model = run.output
    if not isinstance(model, Model):
        raise InvalidInput(
            f"The pipeline {run.pipeline} returned a {type(model).__name__}.",
            "The pipeline of a loop returns tidewheel.Model(estimator, example=...).",
        )
    return Fitted(run=run, model=model)


def _known(store: Store, loop: Loop, key: str, part: Part) -> Run | None:
    wanted = {"model": loop.model, "key": key, "part": part}
    runs = list_runs(store, pipeline=loop.pipeline.name, limit=SEARCHED)
    return next((run for run in runs if wanted.items() <= run.cause.items()), None)
