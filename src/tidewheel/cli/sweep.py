"""`tidewheel sweep`: a run for each point of a grid, side by side, and which one did best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.cli.opened import opened, settings_for
from tidewheel.cli.show import Command, HomeOption, JsonFlag, json_out, table
from tidewheel.cli.words import ParameterFile, Parameters, Target, parameters_from
from tidewheel.errors import InvalidInput

if TYPE_CHECKING:
    from tidewheel.pipelines.sweep import Sweep

NUMBERS = 4  # numbers of an output that are shown beside the one that ranks


def sweep(
    *,
    target: Target,
    grid: Annotated[
        list[str], typer.Option("--grid", "-g", help="name=value,value,... or name=[JSON list]; several are combined.")
    ],
    param: Parameters = None,
    params: ParameterFile = "",
    jobs: Annotated[int, typer.Option(help="Points that run side by side; 0: as many as fit.", min=0)] = 0,
    by: Annotated[str, typer.Option(help="The number of the output that ranks: worth.metrics.rmse.")] = "",
    largest: Annotated[bool, typer.Option("--largest", help="More is better; without it less is.")] = False,
    executor: Annotated[str, typer.Option(help="Where steps run: inline, process or another executor.")] = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Run a pipeline once for each point of a grid; again, it goes on with what is not done."""
    from tidewheel.app import sweep_pipeline
    from tidewheel.cli.progress import progress
    from tidewheel.pipelines.sweep import Ranking

    ranking = Ranking(by=by or None, largest=largest)
    where = executor or settings_for(home).executor
    with opened(home) as store, progress(quiet=json) as on_event:
        done = sweep_pipeline(
            store,
            target,
            _grid(grid),
            parameters_from(param, params),
            jobs=jobs or None,
            ranking=ranking,
            executor=where,
            on_event=on_event,
        )
    if json:
        json_out(done)
    else:
        _print(done)
    if done.state != "SUCCEEDED":
        raise typer.Exit(1)


def _grid(words: list[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for word in words:
        name, mark, text = word.partition("=")
        if not mark or not name.isidentifier() or not text:
            raise InvalidInput(f"--grid {word!r} is not name=value,value.", "Write it like: --grid depth=4,6,8")
        if name in found:
            raise InvalidInput(f"--grid names {name} twice.", f"Write all its values at once: --grid {name}=...,...")
        found[name] = _values(name, text)
    return found


def _values(name: str, text: str) -> list[Any]:
    if not text.startswith("["):
        return text.split(",")
    import orjson

    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"--grid {name}={text} is not a JSON list: {error}.", "Write it like: --grid 'layers=[[8], [8, 4]]'"
        ) from error
    return list(values)


def _print(done: Sweep) -> None:
    names = list(done.points[0].parameters)
    numbers = list(dict.fromkeys(name for point in done.points for name in point.numbers))
    if done.by:
        numbers = [done.by, *(name for name in numbers if name != done.by)]
    numbers = numbers[: NUMBERS + bool(done.by)]
    rows = (
        (
            *point.parameters.values(),
            point.state,
            *(point.numbers.get(name) for name in numbers),
            None if point.seconds is None else round(point.seconds, 2),
            point.run_id[-12:],
            point.error.partition("\n")[0],
        )
        for point in done.points
    )
    table((*names, "state", *(name or "output" for name in numbers), "seconds", "run", "error"), rows, empty="")
    failed = sum(point.state != "SUCCEEDED" for point in done.points)
    total = f"{len(done.points)} points, {failed} failed" if failed else f"{len(done.points)} points"
    print(f"sweep {done.id} {done.state}: {total}{'; the same command goes on with those' if failed else ''}")


COMMANDS = (
    Command(function=sweep, example="tidewheel sweep bikes.py:bikes --grid depth=4,6,8 --grid lr=0.1,0.01 --by rmse"),
)
