"""Runs, plans and reasons as HTML for a notebook; every text is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from tidewheel.errors import TidewheelError
from tidewheel.pipelines.follow import MANY, Follower, counted, step_name, worst
from tidewheel.pipelines.records import Run, StepRecord

if TYPE_CHECKING:
    from tidewheel.pipelines.plan import Plan
    from tidewheel.pipelines.sweep import Sweep
    from tidewheel.pipelines.why import Why

LARGEST_OUTPUT = 10_000_000  # bytes of an output that is loaded for its preview
_TEXT = 1_000  # characters of an output's text
_COLOURS = {
    "SUCCEEDED": "#1a7f37", "COMMITTED": "#1a7f37", "CACHED": "#0969da", "cached": "#0969da", "FAILED": "#cf222e",
    "LOST": "#cf222e", "RUNNING": "#9a6700", "RETRY_AT": "#9a6700",
}  # fmt: skip


def run_html(run: Run) -> str:
    """Return a run with its steps, states, times and a preview of its output."""
    took = "" if run.seconds is None else f" in {run.seconds:.2f} s"
    head = f"<b>{escape(run.pipeline)}</b> {_state(run.state)}{took} <code>{escape(run.id)}</code>"
    given = ", ".join(f"{name}={value}" for name, value in run.parameters.items())
    parts = [f"<p>{head}<br>{escape(_cut(given, 300))}</p>"]
    if run.error:
        parts.append(f'<pre style="color:{_COLOURS["FAILED"]}">{escape(run.error)}</pre>')
    if run.steps:
        parts.append(_table(("step", "state", "seconds", "because"), _steps(run.steps)))
    parts.append(_output(run))
    return _whole(parts)


def plan_html(plan: Plan) -> str:
    """Return what a run would do."""
    rows = [(escape(step.step), _state(step.action), escape(step.reason)) for step in plan.steps]
    more = "" if plan.complete else f"<p>What follows depends on the value of <b>{escape(plan.stopped_at)}</b>.</p>"
    return _whole(
        [f"<p>A run of <b>{escape(plan.pipeline)}</b> would:</p>", _table(("step", "", "because"), rows), more]
    )


def why_html(why: Why) -> str:
    """Return the reasons of a run or step."""
    cause = ", ".join(f"{name} {text}" for name, text in why.cause.items() if text not in (None, "")) or "not said"
    rows = [
        (escape(step.step), _state(step.state), "<br>".join(map(escape, (step.reason, *map(str, step.changes)))))
        for step in why.steps
    ]
    head = f"<b>{escape(why.pipeline)}</b> {_state(why.state)} <code>{escape(why.run_id)}</code>"
    return _whole([f"<p>{head}<br>started because: {escape(cause)}</p>", _table(("step", "state", "because"), rows)])


def sweep_html(sweep: Sweep) -> str:
    """Return the points of a sweep, ranked."""
    names = list(sweep.points[0].parameters)
    numbers = list(dict.fromkeys(name for point in sweep.points for name in point.numbers))[:6]
    rows = [
        (
            *(escape(_cut(str(value), 60)) for value in point.parameters.values()),
            _state(point.state),
            *(f"{point.numbers[name]:.6g}" if name in point.numbers else "" for name in numbers),
            f"<code>{escape(point.run_id[-12:])}</code>",
            escape(_cut(point.error, 200)),
        )
        for point in sweep.points
    ]
    columns = (*names, "state", *(name or "output" for name in numbers), "run", "error")
    head = f"<b>{escape(sweep.pipeline)}</b> {_state(sweep.state)} <code>{escape(sweep.id)}</code>"
    return _whole([f"<p>{head}</p>", _table(columns, rows)])


def follower_html(follower: Follower, now: datetime) -> str:
    """Return where a run stands that goes on."""
    head = f"<b>{escape(follower.pipeline)}</b> {_state(follower.state)} <code>{escape(follower.run_id)}</code>"
    rows = [
        (
            escape(line.name),
            escape(line.counts) if line.counts else _state(line.state),
            "" if line.seconds is None else f"{line.seconds:.2f}",
            escape(_cut(line.detail, 200)),
        )
        for line in follower.lines(now)
    ]
    return _whole([f"<p>{head} {escape(follower.detail)}</p>", _table(("step", "state", "seconds", ""), rows)])


def _steps(steps: Sequence[StepRecord]) -> list[tuple[str, str, str, str]]:
    if len(steps) <= MANY:
        return [(escape(step.name), _state(step.state), _took([step]), escape(_said(step))) for step in steps]
    groups: dict[str, list[StepRecord]] = {}
    for step in steps:
        groups.setdefault(step_name(step.name), []).append(step)
    rows = []
    for name, group in groups.items():
        states = Counter(str(step.state) for step in group)
        telling = next(step for step in group if step.state == worst(states))
        said = _said(telling) if telling.error else ""
        rows.append((escape(name), escape(counted(states)), _took(group), escape(said)))
    return rows


def _took(steps: Sequence[StepRecord]) -> str:
    ends = [step.ended for step in steps if step.ended is not None]
    if len(ends) < len(steps):
        return ""
    return f"{(max(ends) - min(step.started for step in steps)).total_seconds():.2f}"


def _said(step: StepRecord) -> str:
    return _cut((step.error or step.reason or "").partition("\n")[0], 200)


def _output(run: Run) -> str:
    kept = run.facts.get("output")
    if run.state != "SUCCEEDED" or kept is None:
        return ""
    if kept["size"] > LARGEST_OUTPUT:
        return f"<p>output: {escape(kept['codec'])}, {kept['size']:,} bytes (run.output loads it)</p>"
    try:
        value = run.output
    except TidewheelError as error:
        return f"<p>output: {escape(error.what)}</p>"
    rich = getattr(value, "_repr_html_", None)
    drawn: Any = rich() if callable(rich) else None
    return (
        f"<p>output:</p>{drawn}"
        if isinstance(drawn, str)
        else f"<p>output:</p><pre>{escape(_cut(repr(value), _TEXT))}</pre>"
    )


def _state(state: str) -> str:
    return f'<span style="color:{_COLOURS.get(state, "#57606a")}">{escape(state.lower())}</span>'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _whole(parts: Sequence[str]) -> str:
    return f'<div class="tidewheel">{"".join(parts)}</div>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
