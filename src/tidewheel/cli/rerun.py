"""`tidewheel rerun` and `tidewheel cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from tidewheel.cli.ended import tell_end
from tidewheel.cli.opened import opened, settings_for
from tidewheel.cli.runs import RunId
from tidewheel.cli.show import Command, HomeOption, JsonFlag, json_out
from tidewheel.cli.words import Target


def rerun(
    *,
    target: Target,
    run: RunId,
    start: Annotated[str, typer.Option("--from", help="Step to execute again, with all that depends on it.")] = "",
    executor: Annotated[str, typer.Option(help="Where steps run: inline, process or another executor.")] = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Run a run again as a new one, with its parameters and pins; what comes before STEP is answered by the old run."""
    from tidewheel.app import rerun_pipeline
    from tidewheel.cli.progress import progress

    with opened(home) as store, progress(quiet=json) as on_event:
        where = executor or settings_for(home).executor
        done = rerun_pipeline(store, run, target, start=start, executor=where, on_event=on_event)
        if not json:
            tell_end(store, done)
    if json:
        json_out(done)


def cancel(
    *,
    run: RunId,
    reason: Annotated[str, typer.Option(help="Why, for whoever looks at the run.")] = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Stop a run, wherever it goes on: its process ends its children and itself within seconds; it can be resumed."""
    from tidewheel.pipelines.runs import cancel_run

    with opened(home) as store:
        done = cancel_run(store, run, reason=reason)
    if json:
        json_out(done)
    else:
        print(f"run {done.id} {done.state}")


COMMANDS = (
    Command(function=rerun, example="tidewheel rerun bikes.py:bikes 7f3a --from fit"),
    Command(function=cancel, example="tidewheel cancel 7f3a --reason 'wrong month'"),
)
