"""`tidewheel runs`: the runs that were, and one of them in full."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.cli.opened import opened
from tidewheel.cli.show import Command, HomeOption, JsonFlag, cell, json_out, table
from tidewheel.cli.words import parsed_pairs

if TYPE_CHECKING:
    from tidewheel.lineage.store import Store
    from tidewheel.pipelines.records import Run, StepRecord

EACH = 60  # steps of a run that are listed one by one; of more, those of one function share a line
SHORT = 40  # characters of a value that stands in a table
TAIL = 8  # lines of the log of a failed step


def runs(
    *,
    run: Annotated[str, typer.Argument(help="Id of a run (or enough of it) to see in full; none lists them.")] = "",
    pipeline: Annotated[str, typer.Option(help="Only runs of this pipeline.")] = "",
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state; several are allowed.")] = None,
    since: Annotated[str, typer.Option(help="Only runs begun since then: 2h, 3d, 2026-03-02, 2026-03-02T10:00.")] = "",
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="Only runs with this name=value.")] = None,
    cause: Annotated[str, typer.Option(help="Only runs of this cause: its kind, or a part of its reason.")] = "",
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """List runs, newest first, or show one in full: steps, times, cache answers, logs and outputs."""
    from tidewheel.pipelines.find import Wanted, find_runs, moment_since

    with opened(home) as store:
        if run:
            _tell(store, run, as_json=json)
            return
        wanted = Wanted(
            pipeline=pipeline,
            states=tuple(name.upper() for name in state or ()),
            since=moment_since(since, store.clock.now()) if since else None,
            parameters=parsed_pairs(param),
            cause=cause,
            limit=limit,
        )
        found = find_runs(store, wanted)
    if json:
        json_out(found)
        return
    narrowed = pipeline or state or since or param or cause
    empty = "No run fits." if narrowed else "No run yet. Start one with: tidewheel run FILE.py:PIPELINE"
    rows = (
        (one.id, one.pipeline, one.state, one.started, _rounded(one.seconds), _why(one), _first(one.error))
        for one in found
    )
    table(
        ("run", "pipeline", "state", "started", "seconds", "because", "error"),
        rows,
        empty=empty,
        wide_only=("because",),
    )


def _tell(store: Store, run_id: str, *, as_json: bool) -> None:
    from tidewheel.pipelines.preview import preview
    from tidewheel.pipelines.runs import get_run, shelf_of
    from tidewheel.pipelines.stored import stored_from

    run = get_run(store, run_id)
    if as_json:
        json_out(run)
        return
    took = "" if run.seconds is None else f" in {run.seconds:.2f} s"
    print(f"run {run.id} of {run.pipeline}: {run.state}{took}")
    for name, text in _facts(run):
        print(f"  {name:<12} {text}")
    if run.error:
        print(f"  {'error':<12} {run.error}")
    _print_steps(run)
    for step in run.steps:
        if step.state == "FAILED":
            _print_log(step)
    kept = run.facts.get("output")
    if kept is not None:
        print(f"output: {preview(stored_from(kept), shelf_of(store)).text}")
    print(f"why: tidewheel why {run.id[-12:]}   again: tidewheel reproduce {run.id[-12:]}")


def _facts(run: Run) -> list[tuple[str, str]]:
    commit = f"commit {run.facts['commit'][:12]}" if run.facts.get("commit") else ""
    commit += " with changes" if commit and run.facts.get("dirty") else ""
    found = [
        ("started", f"{cell(run.started)}, {_why(run)}"),
        ("parameters", ", ".join(f"{name}={cell(value)}" for name, value in run.parameters.items())),
        ("inputs", ", ".join(f"{name}: {pin['reference']}" for name, pin in run.pins.items())),
        ("code", ", ".join(part for part in (run.code[:12], commit) if part)),
        ("environment", f"Python {run.facts.get('python')} on {run.facts.get('platform')}, {run.environment[:19]}"),
        ("owner", f"{run.owner}{f', resumed {run.resumed} times' if run.resumed else ''}"),
    ]
    return [(name, text) for name, text in found if text]


def _why(run: Run) -> str:
    kind, reason = str(run.cause.get("kind", "")).replace("_", " "), str(run.cause.get("reason", ""))
    return ": ".join(part for part in (kind, reason) if part) or "by hand"


def _print_steps(run: Run) -> None:
    columns = ("step", "state", "tries", "seconds", "used", "gave", "because")
    if len(run.steps) <= EACH:
        rows: list[tuple[object, ...]] = [
            (step.name, step.state, step.attempt or None, _took([step]), _usage(step), _gave(step), _said(step))
            for step in run.steps
        ]
    else:
        rows = [*_grouped(run.steps)]
    table(columns, rows, empty="It has called no step.", wide_only=("used", "gave"))


def _grouped(steps: tuple[StepRecord, ...]) -> list[tuple[object, ...]]:
    from tidewheel.pipelines.follow import counted, step_name

    groups: dict[str, list[StepRecord]] = {}
    for step in steps:
        groups.setdefault(step_name(step.name), []).append(step)
    rows: list[tuple[object, ...]] = []
    for name, group in groups.items():
        bad = next((step for step in group if step.error), None)
        states = counted(Counter(str(step.state) for step in group))
        rows.append(
            (f"{name} x{len(group):,}", states, None, _took(group), "", "", f"{bad.name}: {_said(bad)}" if bad else "")
        )
    return rows


def _took(steps: list[StepRecord]) -> float | None:
    ends = [step.ended for step in steps if step.ended is not None]
    if not ends or len(ends) < len(steps):
        return None
    return _rounded((max(ends) - min(step.started for step in steps)).total_seconds())


def _usage(step: StepRecord) -> str:
    if not step.usage:
        return ""
    used = dict(step.usage)
    parts = [f"{used['cpu_seconds']:.2f} s cpu"] if used.get("cpu_seconds") is not None else []
    parts += [f"{used['peak_memory'] / 1e6:.0f} MB"] if used.get("peak_memory") is not None else []
    return ", ".join(parts)


def _gave(step: StepRecord) -> str:
    """Return a small value as it is, of a large one what it is."""
    from tidewheel.pipelines.preview import size_of

    small = [stored.inline if stored.codec == "tree" else None for stored in step.outputs]
    return ", ".join(
        text if text is not None and len(text) <= SHORT else f"{stored.codec} {size_of(stored.size)}"
        for text, stored in zip(small, step.outputs, strict=True)
    )


def _said(step: StepRecord) -> str:
    return _first(step.error or step.reason)


def _first(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def _print_log(step: StepRecord) -> None:
    from pathlib import Path

    from tidewheel.pipelines.logs import tail

    lines = tail(Path(step.log), TAIL)
    if lines:
        print(f"log of {step.name} ({step.log}):")
        print("\n".join(f"  {line}" for line in lines))


def _rounded(seconds: Any) -> float | None:
    return None if seconds is None else round(seconds, 2)


COMMANDS = (Command(function=runs, example="tidewheel runs --pipeline bikes --since 2d --state FAILED"),)
