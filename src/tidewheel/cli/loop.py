"""`tidewheel loop`: what the loop does, one look of the conductor, a retraining by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from tidewheel.cli.opened import opened, settings_for
from tidewheel.cli.show import By, HomeOption, JsonFlag, json_out, who

group = typer.Typer(help="Loops: status, tick, trigger.", no_args_is_help=True, rich_markup_mode=None)
Target = Annotated[str, typer.Argument(help="FILE.py:LOOP")]
Model = Annotated[str, typer.Argument(help="Name of the loop's model; may be left out when there is one alone.")]


@group.command(epilog="Example: tidewheel loop status bikes")
def status(*, model: Model = "", home: HomeOption = "", json: JsonFlag = False) -> None:
    """Show what runs, what serves, what is being decided, and the last decisions."""
    from tidewheel.loop import status as state

    with opened(home) as store:
        found = state.status(store, model or None)
    if json:
        json_out(found)
    else:
        print(
            "\n".join(line for item in found for line in item.lines())
            or "No loop yet. Start: tidewheel up FILE.py:LOOP"
        )


@group.command(epilog="Example: tidewheel loop tick bikes.py:loop    (from cron, as often as you like)")
def tick(*, target: Target, home: HomeOption = "", json: JsonFlag = False) -> None:
    """Look once: take in labels, watch, decide, and retrain when a trigger is due. Safe from several processes."""
    from tidewheel.app import tick_loop

    with opened(home) as store:
        report = tick_loop(store, target, executor=settings_for(home).executor)
    if json:
        json_out(report)
    else:
        print("\n".join(report.lines()))


@group.command(epilog="Example: tidewheel loop trigger bikes --reason 'new supplier'")
def trigger(
    *,
    model: Annotated[str, typer.Argument(help="Name of the loop's model.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal.")] = "",
    by: By = "",
    home: HomeOption = "",
) -> None:
    """Ask for a retraining; the conductor starts it at its next look."""
    from tidewheel.loop.requests import request_run

    with opened(home) as store:
        request_run(store, model, by=who(by), reason=reason)
    print(f"Asked. The conductor of {model} starts it at its next look: tidewheel loop status {model}")


@group.command(epilog="Example: tidewheel loop run bikes.py:loop")
def run(
    *, target: Annotated[list[str], typer.Argument(help="One or more FILE.py:LOOP.")], home: HomeOption = ""
) -> None:
    """Run the conductor alone, until stopped."""
    from tidewheel.servers import conduct

    conduct(settings_for(home), target, say=print)
