"""`tidewheel logs`: what steps have printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from tidewheel.cli.opened import opened
from tidewheel.cli.show import Command, HomeOption, JsonFlag, json_out

if TYPE_CHECKING:
    from tidewheel.pipelines.printed import Printed


def logs(
    *,
    run: Annotated[str, typer.Argument(help="Id of a run or step, or enough of it.")],
    step: Annotated[str, typer.Argument(help="Only this step: fit-2 is one call, fit all of them.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Print what the steps of a run have printed, tracebacks included; secrets are covered."""
    from tidewheel.pipelines.printed import follow_logs, read_logs

    with opened(home) as store:
        _show(follow_logs(store, run, step) if follow else read_logs(store, run, step), as_json=json)


def _show(pieces: Iterable[Printed], *, as_json: bool) -> None:
    before = None
    for piece in pieces:
        if as_json:
            json_out(piece)
            continue
        if piece.step != before:
            print(f"== {piece.step}")
            before = piece.step
        print(piece.text, end="", flush=True)
    if before is None and not as_json:
        print("Nothing was printed.")


COMMANDS = (Command(function=logs, example="tidewheel logs 7f3a fit --follow"),)
