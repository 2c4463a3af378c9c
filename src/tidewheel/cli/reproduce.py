"""`tidewheel reproduce`."""

from __future__ import annotations

from typing import Annotated

import typer

from tidewheel.cli.opened import settings_for
from tidewheel.cli.show import Command, HomeOption, JsonFlag, json_out, table


def reproduce(
    *,
    run: Annotated[str, typer.Argument(help="Id of a run, or enough of it to be the only one.")],
    here: Annotated[bool, typer.Option(help="Use the present packages instead of building those of the lock.")] = False,
    rtol: Annotated[float, typer.Option(help="Share of a number by which it may be off.")] = 1e-6,
    atol: Annotated[float, typer.Option(help="Amount by which a number may be off.")] = 1e-9,
    executor: Annotated[str, typer.Option(help="Where the steps run.")] = "inline",
    side_effects: Annotated[bool, typer.Option(help="Let steps that change the world outside do so again.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave the laid out sources in the home folder.")] = False,
    inside: Annotated[str, typer.Option(hidden=True, help="Where the rebuilt environment reports to.")] = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Run an old run again from its lock, sources and inputs, and compare each output.

    Exits with 0 when all outputs are identical, 3 when all are within tolerance, 4 when one is different.
    """
    from tidewheel.app import replay_run, reproduce_run
    from tidewheel.pipelines.likeness import Tolerance
    from tidewheel.pipelines.reproduce import Wish, as_json

    wish = Wish(
        here=here,
        tolerance=Tolerance(relative=rtol, absolute=atol),
        executor=executor,
        side_effects=side_effects,
        keep=keep,
    )
    if inside:
        replay_run(settings_for(home), run, wish, inside)
        return
    found = reproduce_run(settings_for(home), run, wish)
    if json:
        json_out(as_json(found))
        raise typer.Exit(found.exit_code)
    print(f"{found.run_id} run again as {found.new_id}: {found.verdict}")
    rows = ((item.name, item.verdict.value, item.detail) for item in found.outputs)
    table(("output", "is", "detail"), rows, empty="The run had no outputs.")
    for note in found.notes:
        print(f"note: {note}")
    if found.error:
        print(f"error in the new run: {found.error}")
    if found.folder:
        print(f"sources: {found.folder}")
    raise typer.Exit(found.exit_code)


COMMANDS = (Command(function=reproduce, example="tidewheel reproduce 7f3a --rtol 1e-6"),)
