"""What is said when a step gave nothing: which one, why, where its log is, how to go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tidewheel.errors import StepFailed, StepTimeout
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.executors.seam import Failure
from tidewheel.pipelines.logs import tail

_NAMED = 10  # failures that are told one by one


def many_failed(calls: Sequence[Call], pipeline: str, run_id: str) -> StepFailed:
    """Return one error for several calls: which of them, and of which items of a map, and why each."""
    counts = Counter(call.step.name for call in calls)
    names = ", ".join(f"{many} of {name}" for name, many in counts.items())
    told = [f"    {_name(call)}: {call.said}" for call in calls[:_NAMED]]
    rest = [f"    and {len(calls) - _NAMED} more: tidewheel why {run_id}"] if len(calls) > _NAMED else []
    error = StepFailed(
        "\n".join([f"{len(calls)} calls of {pipeline} failed ({names}); all others are committed.", *told, *rest]),
        f"Mend them and go on with: tidewheel resume FILE.py:{pipeline} {run_id}",
        step=calls[0].step.identity,
        run_id=run_id,
    )
    error.__cause__ = calls[0].error
    return error


def _name(call: Call) -> str:
    return call.label if call.item is None else f"{call.step.name}, item {call.item}"


def step_error(call: Call, failure: Failure, pipeline: str, run_id: str, log: Path) -> StepFailed:
    """Return the error of a call, with the last lines of its log and the error behind it as cause."""
    kind = StepTimeout if failure.kind == "timeout" else StepFailed
    item = "" if call.item is None else f" (item {call.item})"
    tries = f" (tried {call.failures} times)" if call.failures > 1 else ""
    mend = failure.mend or f"Mend it and go on with: tidewheel resume FILE.py:{pipeline} {run_id}"
    said = "".join(f"\n    {line}" for line in tail(log))
    error = kind(
        f"Step {call.label}{item} of {pipeline} failed{tries}: {failure.message}",
        f"{mend}\n  log: {log}{said}" if said else mend,
        step=call.step.identity,
        run_id=run_id,
        log=str(log),
    )
    error.__cause__ = failure.cause
    return error
