"""Why a run or step happened: the chain of its causes, and the parts of the cache key that changed since last time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.database.transaction import Transaction, among
from tidewheel.database.values import from_json
from tidewheel.errors import NotFound
from tidewheel.lineage.read import get_execution, list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.rows import execution_of
from tidewheel.lineage.store import Store
from tidewheel.pipelines.cache import code_parts
from tidewheel.pipelines.keys import Key
from tidewheel.pipelines.transitions import DONE_STEP, StepState

_MANY = 1_000_000  # more calls than a run has
_FAR = 20  # causes of causes that are followed
_DONE = among("done", sorted(DONE_STEP))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One part of a cache key that differs from the last time."""

    part: str  # "code helpers.clean", "input depth", "package polars"
    before: str  # what it was, "" when it was not there
    after: str  # what it is, "" when it is gone
    source: str = ""  # for an input: the call of this run that gave it, "" when none did

    def __str__(self) -> str:
        come = f" (from {self.source})" if self.source else ""
        if not self.before:
            return f"{self.part} is new: {self.after}{come}"
        return f"{self.part}: {self.before} -> {self.after or 'gone'}{come}"


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
    steps: tuple[StepWhy, ...]  # its calls in order, or the one asked for and then those whose changes reached it
    causes: tuple[str, ...] = ()  # what stands behind the cause, the nearest first: a tick, another run

    def lines(self) -> list[str]:
        """Return the reasons as lines for people."""
        cause = ", ".join(f"{name} {text}" for name, text in self.cause.items() if text not in (None, "")) or "not said"
        found = [f"run {self.run_id} of {self.pipeline}: {self.state}", f"  started because: {cause}"]
        found += [f"    which was: {line}" for line in self.causes]
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
        looker = _Looker(tx, run)
        steps = looker.all() if found is run else looker.chain(found)
        causes = tuple(_causes(tx, run))
    facets = run.facets
    return Why(
        run_id=run.id,
        pipeline=run.job,
        state=run.state,
        cause=facets.get("cause", {}),
        pins=facets.get("pins", {}),
        steps=steps,
        causes=causes,
    )


def miss_reason(tx: Transaction, step: str, label: str, key: Key) -> str:
    """Say in one line why no answer fits a call: what differs from the last time that this step was executed."""
    if not key.reusable:
        return key.note or "its answers are never reused"
    before = _before(tx, step, "").get(label)
    if before is None:
        return "it was never executed"
    changes = _compare(code_parts(tx, before.code_digest), key.code.parts)
    changes += _named(before.facets.get("besides", {}), key.besides) + _inputs(before.parameters, key.inputs, {})
    return "; ".join(map(str, changes[:3])) or f"the answer of {before.id} is not kept any more"


class _Looker:
    """Looks at the calls of one run; what the last run of a step looked like is read once per step."""

    def __init__(self, tx: Transaction, run: Execution) -> None:
        self._tx = tx
        self._run = run
        self._calls = {call.id: call for call in list_executions(tx, "step", parent_id=run.id, limit=_MANY)}
        self._before: dict[str, _Before] = {}
        self._parts: dict[str, dict[str, str]] = {}

    def all(self) -> tuple[StepWhy, ...]:
        """Return every call in order."""
        calls = sorted(self._calls.values(), key=lambda call: int(call.facets.get("ordinal", 0)))
        return tuple(self.step(call) for call in calls)

    def chain(self, asked: Execution) -> tuple[StepWhy, ...]:
        """Return one call, and those that its changes come from, the nearest first."""
        labels = {str(call.facets.get("label")): call for call in self._calls.values()}
        found: dict[str, StepWhy] = {}
        waiting = [asked]
        while waiting:
            call = waiting.pop(0)
            if call.id not in found:
                found[call.id] = self.step(call)
                waiting += [labels[change.source] for change in found[call.id].changes if change.source in labels]
        return tuple(found.values())

    def step(self, call: Execution) -> StepWhy:
        """Say why one call was executed or not."""
        label = str(call.facets.get("label", call.job))
        before = self._last(call).get(label) if call.state != StepState.CACHED else None
        changes: list[Change] = []
        if before is not None:
            changes = _compare(self._code(before.code_digest), self._code(call.code_digest))
            changes += _named(before.facets.get("besides", {}), call.facets.get("besides", {}))
            changes += _inputs(before.parameters, call.parameters, self._sources(call))
        return StepWhy(
            step=label,
            execution_id=call.id,
            state=call.state,
            reason=_reason(call, before, changes),
            compared_with=before.id if before else "",
            changes=tuple(changes),
        )

    def _last(self, call: Execution) -> _Before:
        if call.job not in self._before:
            self._before[call.job] = _before(self._tx, call.job, self._run.id)
        return self._before[call.job]

    def _code(self, digest: str) -> dict[str, str]:
        if digest not in self._parts:
            self._parts[digest] = code_parts(self._tx, digest)
        return self._parts[digest]

    def _sources(self, call: Execution) -> dict[str, str]:
        """Return which calls of this run gave the inputs of a call, by the name of the input."""
        rows = self._tx.rows(
            "SELECT u.role, e.facets FROM edge u JOIN edge g ON g.src = u.dst AND g.relation = 'generated'"
            " JOIN execution e ON e.id = g.dst WHERE u.src = :call AND u.relation = 'used' AND e.parent_id = :run",
            call=call.id,
            run=self._run.id,
        )
        return {row["role"]: str(from_json(row["facets"]).get("label", "")) for row in rows}


@dataclass(frozen=True, slots=True)
class _Before:
    """The calls of a step in the last run that executed it."""

    by_label: Mapping[str, Execution]  # by name in that run
    newest: Execution | None  # the last of them

    def get(self, label: str) -> Execution | None:
        """Return the call of that name, or else the newest: what a call is compared with."""
        return self.by_label.get(label, self.newest)


def _before(tx: Transaction, step: str, run_id: str) -> _Before:
    """Look for the last run before this one in which a step was done; ids grow with time."""
    row = tx.row(
        "SELECT * FROM execution WHERE kind = 'step' AND job = :job AND (:run = '' OR id < :run)"  # noqa: S608
        f" AND state IN ({_DONE.sql}) ORDER BY id DESC LIMIT 1",
        job=step,
        run=run_id,
        **_DONE.values,
    )
    if row is None:
        return _Before({}, None)
    newest = execution_of(row)
    done = [str(state) for state in DONE_STEP]
    calls = list_executions(tx, "step", job=step, parent_id=newest.parent_id, state=done, limit=_MANY)
    return _Before({str(call.facets.get("label", "")): call for call in calls}, newest)


def _causes(tx: Transaction, run: Execution) -> list[str]:
    """Follow the causes of a run: what started it, what started that, and so on."""
    found: list[str] = []
    seen = {run.id}
    cause = run.facets.get("cause", {}).get("execution_id")
    while cause and cause not in seen and len(found) < _FAR:
        seen.add(cause)
        try:
            behind = get_execution(tx, cause)
        except NotFound:
            found.append(f"{cause}, which is not kept any more")
            break
        why_so = behind.facets.get("cause", {})
        said = why_so.get("reason") or why_so.get("kind") or behind.facets.get("reason") or ""
        found.append(f"{behind.kind} {behind.id} of {behind.job}: {behind.state}{f', {said}' if said else ''}")
        cause = why_so.get("execution_id") or behind.parent_id
    return found


def _reason(call: Execution, before: Execution | None, changes: list[Change]) -> str:
    note = call.facets.get("note") or ""
    said = str(call.facets.get("reason") or "")
    verified = call.facets.get("verified")
    if call.state in (StepState.CACHED, StepState.SKIPPED, StepState.WAITING):
        return said
    if verified:
        other = call.facets["verified_against"]
        same = "gave the same" if verified == "same" else "gave ANOTHER answer: the step is not deterministic"
        return f"it was executed again to verify the answer of {other}, and {same}"
    if before is None:
        text = "it was never executed before"
    elif changes:
        text = f"it differs from {before.id}"
    else:
        text = said or "its answer was not kept"
    return f"{text} ({note})" if note else text


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


def _named(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Compare what the options of a step name: files, modules, variables, its environment."""
    return [
        Change(part=name, before=before.get(name, "")[-16:], after=after.get(name, "")[-16:])
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _inputs(before: Mapping[str, str], after: Mapping[str, str], sources: Mapping[str, str]) -> list[Change]:
    return [
        Change(
            part=f"input {name}", before=before.get(name, ""), after=after.get(name, ""), source=sources.get(name, "")
        )
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
