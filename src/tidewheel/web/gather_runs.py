"""Read runs for their pages through the functions of the pipelines room: nothing is decided here, nothing written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.read import get_execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.find import Wanted, find_runs, moment_since, pipeline_names
from tidewheel.pipelines.follow import counted, step_name, worst
from tidewheel.pipelines.logs import tail
from tidewheel.pipelines.preview import preview, size_of
from tidewheel.pipelines.records import Run, StepRecord
from tidewheel.pipelines.runs import get_run, shelf_of
from tidewheel.pipelines.stored import Stored, stored_from
from tidewheel.pipelines.transitions import RunState
from tidewheel.pipelines.why import why
from tidewheel.pipelines.wiring import Arrow, arguments_of, wiring
from tidewheel.web.flow import flow
from tidewheel.web.run_records import Filters, Piece, RunList, RunPage, RunRow, StepDetail, StepRow

EACH = 60  # calls that have a line of their own; of more, those of one step share one
GROUP = 100  # calls of one step that are listed when it is asked for
LOG_LINES = 200  # last lines of a log that are shown
CHAIN = 5  # causes of causes that are followed
GOING_ON = ("QUEUED", "RUNNING", "WAITING")


def read_runs(store: Store, filters: Filters) -> RunList:
    """Return the list of runs that fit; raises InvalidInput for a filter that cannot be read."""
    now = store.clock.now()
    name, mark, value = filters.param.partition("=")
    if filters.param and not mark:
        raise InvalidInput(f"param={filters.param!r} is not name=value.", "Write it like depth=8.")
    wanted = Wanted(
        pipeline=filters.pipeline,
        states=(filters.state.upper(),) if filters.state else (),
        since=moment_since(filters.since, now) if filters.since else None,
        parameters={name: value} if filters.param else {},
        cause=filters.cause,
        limit=filters.limit,
    )
    return RunList(
        at=now,
        home=home_of(store),
        filters=filters,
        pipelines=tuple(pipeline_names(store)),
        states=tuple(map(str, RunState)),
        rows=tuple(_row(run) for run in find_runs(store, wanted)),
    )


def read_run(store: Store, run_id: str, step: str = "") -> RunPage:
    """Return one run, with one of its calls (or the calls of one step) in full; raises NotFound."""
    run = get_run(store, run_id)
    now = store.clock.now()
    shelf = shelf_of(store)
    kept, given = run.facts.get("output"), arguments_of(store, run.id)
    arrows = wiring(store, run)
    shown, group = _asked(store, run, arrows, step, now)
    return RunPage(
        at=now,
        home=home_of(store),
        run=_row(run),
        live=run.state in GOING_ON,
        counts=counted(Counter(str(each.state) for each in run.steps)),
        error=run.error or "",
        causes=_causes(store, run),
        parameters=tuple(
            _piece(name, given[name], shelf) if name in given and given[name].blobs else _plain(name, value)
            for name, value in run.parameters.items()
            if name not in run.pins
        ),
        inputs=tuple(_plain(role, pin["reference"], "picked by the store") for role, pin in run.pins.items()),
        outputs=(_piece("output", stored_from(kept), shelf),) if kept else (),
        facts=_facts(run),
        steps=_lines(run.steps, run, now),
        graph=flow(run.steps, arrows),
        shown=shown,
        group=group,
        reproduce=f"tidewheel reproduce {run.id}",
    )


def home_of(store: Store) -> str:
    """Return the last two folders of the home's path."""
    return f"{store.home.parent.name}/{store.home.name}"


def _row(run: Run) -> RunRow:
    return RunRow(
        id=run.id,
        pipeline=run.pipeline,
        state=str(run.state),
        cause=_said(run.cause),
        parameters=", ".join(f"{name}={value}" for name, value in run.parameters.items()),
        started=run.started,
        ended=run.ended,
        error=(run.error or "").partition("\n")[0],
    )


def _said(cause: Any) -> str:
    kind, reason = str(cause.get("kind", "")).replace("_", " "), str(cause.get("reason", ""))
    return ": ".join(part for part in (kind, reason) if part) or "by hand"


def _causes(store: Store, run: Run) -> tuple[str, ...]:
    """Return why a run was started, and why that was."""
    found = [_said(run.cause)]
    above = run.cause.get("execution_id")
    with store.database.reading() as tx:
        while above and len(found) < CHAIN:
            try:
                execution = get_execution(tx, str(above))
            except NotFound:
                break
            cause = execution.facets.get("cause", {})
            reason = f", because of {_said(cause)}" if cause else ""
            found.append(f"{execution.kind} {execution.job} ({execution.id[-12:]}){reason}")
            above = cause.get("execution_id") or execution.parent_id
    return tuple(found)


def _facts(run: Run) -> dict[str, str]:
    commit = str(run.facts.get("commit") or "")
    found = {
        "code": run.code[:24],
        "commit": f"{commit[:12]}{' with changes' if run.facts.get('dirty') else ''}" if commit else "",
        "Python": f"{run.facts.get('python', '')} on {run.facts.get('platform', '')}",
        "packages": run.environment[:24],
        "process": run.owner,
        "resumed": f"{run.resumed} times" if run.resumed else "",
        "seeds": ", ".join(f"{name}={seed}" for name, seed in (run.facts.get("seeds") or {}).items()),
    }
    return {name: text for name, text in found.items() if text}


def _plain(name: str, value: object, kind: str = "") -> Piece:
    return Piece(name=name, kind=kind, text=str(value), size="")


def _piece(name: str, stored: Stored, shelf: Any) -> Piece:
    seen = preview(stored, shelf)
    return Piece(
        name=name, kind=seen.kind, text=seen.text, size=size_of(seen.size), columns=seen.columns, rows=seen.rows
    )


def _lines(steps: Sequence[StepRecord], run: Run, now: datetime, *, each: int = EACH) -> tuple[StepRow, ...]:
    """Return a line per call, or per step when there are many calls."""
    if len(steps) <= each:
        return tuple(_line(step.name, [step], run, now) for step in steps)
    groups: dict[str, list[StepRecord]] = {}
    for step in steps:
        groups.setdefault(step_name(step.name), []).append(step)
    return tuple(_line(name, group, run, now) for name, group in groups.items())


def _line(name: str, steps: Sequence[StepRecord], run: Run, now: datetime) -> StepRow:
    states = Counter(str(step.state) for step in steps)
    state = worst(states)
    telling = next(step for step in steps if step.state == state)
    begun = min(step.started for step in steps)
    over = all(step.ended is not None for step in steps)
    until = max(step.ended or now for step in steps)
    stretch = max(((run.ended or now) - run.started).total_seconds(), 1e-6)
    begins = min(max((begun - run.started).total_seconds() / stretch, 0.0), 1.0)
    return StepRow(
        name=name,
        calls=len(steps),
        state=state,
        counts=counted(states) if len(steps) > 1 else "",
        tries=max(step.attempt for step in steps),
        seconds=(until - begun).total_seconds() if over else None,
        begins=begins,
        lasts=min((until - begun).total_seconds() / stretch, 1.0 - begins),
        used=_used(steps),
        because=(telling.error or telling.reason or "").partition("\n")[0],
    )


def _used(steps: Sequence[StepRecord]) -> str:
    measured = [step.usage for step in steps if step.usage]
    cpu = [usage["cpu_seconds"] for usage in measured if usage.get("cpu_seconds") is not None]
    memory = [usage["peak_memory"] for usage in measured if usage.get("peak_memory") is not None]
    parts = [f"{sum(cpu):.2f} s cpu"] if cpu else []
    return ", ".join([*parts, *([size_of(int(max(memory)))] if memory else [])])


def _amount(name: str, value: float) -> str:
    return f"{value:.3f} s" if name.endswith("seconds") else size_of(int(value))


def _asked(
    store: Store, run: Run, arrows: Sequence[Arrow], name: str, now: datetime
) -> tuple[StepDetail | None, tuple[StepRow, ...]]:
    """Return the call that was asked for, and the calls of its step where there are several; raises NotFound."""
    if not name:
        return None, ()
    group = [step for step in run.steps if step_name(step.name) == step_name(name)]
    found = next((step for step in group if step.name == name), None)
    if not group:
        raise NotFound("step of the run", name, {step_name(step.name) for step in run.steps})
    first = sorted(group, key=lambda step: (not step.error, step.ordinal))[:GROUP]
    rows = tuple(_line(step.name, [step], run, now) for step in first) if len(run.steps) > EACH else ()
    return (_detail(store, found, arrows) if found is not None else None), rows


def _detail(store: Store, step: StepRecord, arrows: Sequence[Arrow]) -> StepDetail:
    shelf = shelf_of(store)
    origins = {arrow.role: arrow for arrow in arrows if arrow.dst == step.name}
    told = why(store, step.id).steps
    because = [step.reason or ""] if not told else [told[0].reason, *map(str, told[0].changes)]
    return StepDetail(
        name=step.name,
        id=step.id,
        state=str(step.state),
        because=tuple(because),
        key=step.key,
        inputs=tuple(
            _piece(f"{name}, from {origins[name].src}", origins[name].stored, shelf)
            if name in origins
            else _plain(name, text)
            for name, text in (step.inputs or dict.fromkeys(origins, "")).items()
        ),
        outputs=tuple(
            _piece(f"output {place}" if len(step.outputs) > 1 else "output", stored, shelf)
            for place, stored in enumerate(step.outputs, start=1)
        ),
        usage={name: _amount(name, value) for name, value in (step.usage or {}).items() if value is not None},
        log_file=step.log,
        log=tuple(tail(Path(step.log), LOG_LINES)),
        error=step.error or "",
    )
