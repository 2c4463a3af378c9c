"""`tidewheel run`, `plan`, `why`, `resume`, `lineage`, `alerts`, `audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from tidewheel.cli.ended import tell_end
from tidewheel.cli.opened import opened, settings_for
from tidewheel.cli.show import Command, HomeOption, JsonFlag, json_out, table
from tidewheel.cli.words import ParameterFile, Parameters, Target, parameters_from

LEFT = 3  # exit code of a process that has left its run waiting for an approval
LeaveFlag = Annotated[
    bool, typer.Option("--leave", help="End with code 3 instead of waiting where only an approval is missing.")
]
RunId = Annotated[str, typer.Argument(help="Id of a run or step, or enough of it to be the only one.")]


def run(
    *,
    target: Target,
    param: Parameters = None,
    params: ParameterFile = "",
    executor: Annotated[str, typer.Option(help="Where steps run: inline or process.")] = "",
    leave: LeaveFlag = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Run a pipeline; what is done already is taken from the cache."""
    from tidewheel.app import run_pipeline
    from tidewheel.cli.progress import progress

    with opened(home) as store, progress(quiet=json) as on_event:
        done = run_pipeline(
            store,
            target,
            parameters_from(param, params),
            executor=executor or settings_for(home).executor,
            on_event=on_event,
            leave=leave,
        )
        if not json:
            tell_end(store, done)
    if json:
        json_out(done)
    _exit_waiting(done.state)


def _exit_waiting(state: str) -> None:
    if state == "WAITING":
        raise typer.Exit(LEFT)


def plan(
    *,
    target: Target,
    param: Parameters = None,
    params: ParameterFile = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Show which steps would run and which would come from the cache, and why, without running them."""
    from tidewheel.app import plan_pipeline

    with opened(home) as store:
        planned = plan_pipeline(store, target, parameters_from(param, params))
    if json:
        json_out(planned)
        return
    rows = ((item.step, item.action, item.reason) for item in planned.steps)
    table(("step", "would", "because"), rows, empty="The pipeline calls no step.")


def why(*, run: RunId, home: HomeOption = "", json: JsonFlag = False) -> None:
    """Say why a run or step happened, and which part of its key changed since the last time."""
    from tidewheel.pipelines import why as reasons

    with opened(home) as store:
        found = reasons.why(store, run)
    if json:
        json_out(found)
        return
    print("\n".join(found.lines()))


def resume(
    *,
    target: Target,
    run: RunId,
    executor: Annotated[str, typer.Option(help="Where steps run: inline, process or another executor.")] = "",
    leave: LeaveFlag = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Go on with a run that was killed, failed, or left waiting; committed steps are not repeated."""
    from tidewheel.app import resume_pipeline
    from tidewheel.cli.progress import progress

    with opened(home) as store, progress(quiet=json) as on_event:
        where = executor or settings_for(home).executor
        done = resume_pipeline(store, run, target, executor=where, on_event=on_event, leave=leave)
    if json:
        json_out(done)
    else:
        print(f"run {done.id} {done.state}")
    _exit_waiting(done.state)


def lineage(
    *,
    name: Annotated[str, typer.Argument(help="dataset, model or run: bikes, bikes:3, bikes@champion, an id.")],
    kind: Annotated[str, typer.Option(help="model or dataset, when a name is both.")] = "",
    up: Annotated[bool, typer.Option("--up", help="Only where it comes from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what hangs on it.")] = False,
    depth: Annotated[int, typer.Option(help="How many arrows to follow.", min=1)] = 20,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Print where a thing comes from and what hangs on it."""
    from tidewheel.app import lineage_of
    from tidewheel.cli.tree import print_tree

    with opened(home) as store:
        found = lineage_of(store, name, kind=kind, up=up or not down, down=down or not up, depth=depth)
    if json:
        json_out(found)
    else:
        print_tree(found)


def alerts(
    *,
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """List the alerts of a model: what opened, when, on what evidence, and whether it closed."""
    from tidewheel.monitoring import alerts as monitor

    with opened(home) as store:
        found = monitor.list_alerts(store, model)
    if json:
        json_out(found)
        return
    rows = ((item.kind, item.state, item.opened, item.closed, item.reason) for item in found)
    table(("alert", "state", "opened", "closed", "because"), rows, empty=f"{model} has had no alert.")


def audit(*, home: HomeOption = "", json: JsonFlag = False) -> None:
    """Check the hash chain of all events that govern: aliases, traffic, approvals."""
    from tidewheel.app import check_audit

    with opened(home) as store:
        report = check_audit(store)
    if json:
        json_out({"events": report.events, "intact": report.intact, "broken_at": report.broken_at})
    elif report.intact:
        print(f"The audit log is intact: {report.events} events, each chained to the one before.")
    else:
        print(f"The audit log is broken at event {report.broken_at}: it or the one before was altered or removed.")
    if not report.intact:
        raise typer.Exit(1)


COMMANDS = (
    Command(function=run, example="tidewheel run bikes.py:bikes --param depth=8"),
    Command(function=plan, example="tidewheel plan bikes.py:bikes"),
    Command(function=why, example="tidewheel why 7f3a"),
    Command(function=resume, example="tidewheel resume bikes.py:bikes 7f3a"),
    Command(function=lineage, example="tidewheel lineage bikes@champion --up"),
    Command(function=alerts, example="tidewheel alerts bikes"),
    Command(function=audit, example="tidewheel audit"),
)
