"""Why a run or step happened: its cause, and the parts of the cache key that changed since the last time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.database.transaction import Transaction
from tidewheel.errors import NotFound
from tidewheel.lineage.read import get_execution, list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.cache import code_parts
from tidewheel.pipelines.keys import Key
from tidewheel.pipelines.transitions import DONE_STEP, StepState

_MANY = 1_000_000  # more calls than a run has
_BACK = 200  # executions of a step that are looked through for the one before


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One part of a cache key that differs from the last time."""

    part: str  # "code helpers.clean", "input depth", "package polars"
    before: str  # what it was, "" when it was not there
    after: str  # what it is, "" when it is gone

    def __str__(self) -> str:
        if not self.before:
            return f"{self.part} is new: {self.after}"
        return f"{self.part}: {self.before} -> {self.after or 'gone'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWhy:
    """Why one call of a step was executed or not."""

    step: str  # its name in the run
    execution_id: str  # its execution
    state: str  # where it stands
    reason: str  # in one line
    compared_with: str  # the execution before it, "" when there was none
    changes: tuple[Change, ...]  # what differs from that one


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The reasons of a run, or of one step of it."""

    run_id: str  # the run
    pipeline: str  # its pipeline
    state: str  # where it stands
    cause: Mapping[str, Any]  # why it was started, as its starter said
    pins: Mapping[str, Any]  # inputs that the store picked for it
    steps: tuple[StepWhy, ...]  # its calls in order, or the one asked for

    def lines(self) -> list[str]:
        """Return the reasons as lines for people."""
        cause = ", ".join(f"{name} {text}" for name, text in self.cause.items() if text not in (None, "")) or "not said"
        found = [f"run {self.run_id} of {self.pipeline}: {self.state}", f"  started because: {cause}"]
        found += [f"  input {role}: {pin['reference']}" for role, pin in self.pins.items()]
        for step in self.steps:
            found.append(f"  {step.step}: {step.state.lower()}, {step.reason}")
            found += [f"      {change}" for change in step.changes]
        return found

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from tidewheel.pipelines.html import why_html

        return why_html(self)


def why(store: Store, run_or_step_id: str) -> Why:
    """Say why a run and its steps happened, or why one step did; enough of an id is enough.

    Raises NotFound for an id that is neither.
    """
    with store.database.reading() as tx:
        found = get_execution(tx, run_or_step_id)
        run = get_execution(tx, found.parent_id) if found.kind == "step" and found.parent_id else found
        if run.kind != "run":
            raise NotFound("run or step", run_or_step_id, mend="List runs with: tidewheel runs")
        calls = list_executions(tx, "step", parent_id=run.id, limit=_MANY) if found is run else [found]
        calls.sort(key=lambda call: call.facets.get("ordinal", 0))
        steps = tuple(_step(tx, call) for call in calls)
    facets = run.facets
    return Why(
        run_id=run.id,
        pipeline=run.job,
        state=run.state,
        cause=facets.get("cause", {}),
        pins=facets.get("pins", {}),
        steps=steps,
    )


def miss_reason(tx: Transaction, step: str, key: Key) -> str:
    """Say in one line why no answer fits a call: what differs from the last time that step was executed."""
    if not key.reusable:
        return key.note or "its answers are never reused"
    before = _last(tx, step)
    if before is None:
        return "it was never executed"
    changes = _compare(code_parts(tx, before.code_digest), key.code.parts) + _inputs(before.parameters, key.inputs)
    return "; ".join(map(str, changes[:3])) or "its answer is not kept any more"


def _step(tx: Transaction, call: Execution) -> StepWhy:
    before = _last(tx, call.job, before=call) if call.state != StepState.CACHED else None
    changes: list[Change] = []
    if before is not None:
        changes = _compare(code_parts(tx, before.code_digest), code_parts(tx, call.code_digest))
        changes += _inputs(before.parameters, call.parameters)
    return StepWhy(
        step=call.facets.get("label", call.job),
        execution_id=call.id,
        state=call.state,
        reason=_reason(call, before, changes),
        compared_with=before.id if before else "",
        changes=tuple(changes),
    )


def _reason(call: Execution, before: Execution | None, changes: list[Change]) -> str:
    note = call.facets.get("note") or ""
    said = str(call.facets.get("reason") or "")
    if call.state in (StepState.CACHED, StepState.SKIPPED):
        return said
    if before is None:
        text = "it was never executed before"
    elif changes:
        text = f"it differs from {before.id}"
    else:
        text = said or "its answer was not kept"
    return f"{text} ({note})" if note else text


def _last(tx: Transaction, step: str, before: Execution | None = None) -> Execution | None:
    """Return the newest finished execution of a step, before another one where that is given."""
    done = [str(state) for state in DONE_STEP]
    for found in list_executions(tx, "step", job=step, state=done, limit=_BACK):
        if before is None or (found.id < before.id and found.parent_id != before.parent_id):
            return found
    return None


def _compare(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    return [
        Change(part=_part(name), before=before.get(name, "")[:24], after=after.get(name, "")[:24])
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _part(name: str) -> str:
    if name == "python":
        return "Python"
    return f"code {name}" if "." in name else f"package {name}"


def _inputs(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    return [
        Change(part=f"input {name}", before=before.get(name, ""), after=after.get(name, ""))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
