"""What is said when a step gave nothing: which one, why, where its log is, how to go on."""

from __future__ import annotations

from pathlib import Path

from tidewheel.errors import StepFailed, StepTimeout
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.executors.seam import Failure
from tidewheel.pipelines.logs import tail


def step_error(call: Call, failure: Failure, pipeline: str, run_id: str, log: Path) -> StepFailed:
    """Return the error of a call, with the last lines of its log and the error behind it as cause."""
    kind = StepTimeout if failure.kind == "timeout" else StepFailed
    tries = f" (tried {call.failures} times)" if call.failures > 1 else ""
    mend = failure.mend or f"Mend it and go on with: tidewheel resume FILE.py:{pipeline} {run_id}"
    said = "".join(f"\n    {line}" for line in tail(log))
    error = kind(
        f"Step {call.label} of {pipeline} failed{tries}: {failure.message}",
        f"{mend}\n  log: {log}{said}" if said else mend,
        step=call.step.identity,
        run_id=run_id,
        log=str(log),
    )
    error.__cause__ = failure.cause
    return error
