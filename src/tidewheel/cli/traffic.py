"""`tidewheel models traffic` and `learn`: who answers which share of the requests, and what bandits have learned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tidewheel.cli.models import Name, Reason
from tidewheel.cli.opened import opened
from tidewheel.cli.show import By, Command, HomeOption, JsonFlag, json_out, table, who
from tidewheel.errors import InvalidInput

Arms = Annotated[
    list[str] | None,
    typer.Option("--arm", help="A version that takes part, with its share or weight: 2, or 2=0.3; several in order."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A field of the strategy as name=value, such as threshold=0.9.")
]


def traffic(
    *,
    name: Name,
    strategy: Annotated[str, typer.Option("--strategy", help="Kind of the strategy; without it: show.")] = "",
    arm: Arms = None,
    champion: Annotated[int | None, typer.Option("--champion", help="Who answers whatever is left to nobody.")] = None,
    fields: Settings = None,
    file: Annotated[Path | None, typer.Option("--file", help="A JSON file with the whole strategy.")] = None,
    reason: Reason = "",
    by: By = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Show who answers which share, or let several versions answer as a strategy says."""
    from tidewheel.registry import promotion
    from tidewheel.registry import traffic as rows
    from tidewheel.registry.describe import described, strategy_of

    with opened(home) as store:
        if strategy or file is not None:
            content = _content(strategy, arm, fields, file)
            wanted = strategy_of(store, name, content)
            promotion.set_strategy(store, name, wanted, champion=champion, by=who(by), reason=reason)
        elif arm or fields or champion is not None:
            raise InvalidInput("It is not said which strategy.", "Add --strategy KIND or --file FILE.json.")
        found = described(rows.current_traffic(store, name))
    if json:
        json_out(found)
        return
    print(f"{name}: {found.kind} since row {found.seq}, by {found.by or '-'}: {found.reason or '-'}")
    table(("version", "part", "share"), ((each.version, each.part, each.share) for each in found.arms), empty="")


def learn(*, name: Name, reason: Reason = "", by: By = "", home: HomeOption = "", json: JsonFlag = False) -> None:
    """Let a bandit take in the outcomes that came since its last policy."""
    from tidewheel.serving.strategies.learn import learn as take_in

    with opened(home) as store:
        lesson = take_in(store, name, by=who(by), reason=reason)
    if json:
        json_out({"policy": lesson.policy, "rows": lesson.rows, "left_out": lesson.left_out, "shares": lesson.shares})
        return
    print(f"Policy {lesson.policy} of {name}: {lesson.rows} rewards counted, {lesson.left_out} left out.")
    table(("version", "share"), lesson.shares.items(), empty="")


def _content(strategy: str, arms: list[str] | None, fields: list[str] | None, file: Path | None) -> dict[str, Any]:
    """Return the words as plain values; those of the command line win over the file's."""
    from tidewheel.pipelines.parameter_file import read_parameters

    content: dict[str, Any] = dict(read_parameters(file)) if file is not None else {}
    if strategy:
        content["kind"] = strategy
    if arms:
        content["arms"] = dict(_arm(word) for word in arms)
    for word in fields or ():
        name, mark, value = word.partition("=")
        if not mark:
            raise InvalidInput(f"--set {word!r} is not name=value.", "Write it like: --set floor=0.05")
        content[name] = _value(value)
    return content


def _arm(word: str) -> tuple[int, float | None]:
    version, mark, number = word.partition("=")
    try:
        return int(version), float(number) if mark else None
    except ValueError as error:
        raise InvalidInput(f"--arm {word!r} is not VERSION or VERSION=NUMBER.", "Write it like: --arm 2=0.3") from error


def _value(text: str) -> Any:
    """Return JSON as what it says, and any other text as it is."""
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


COMMANDS = (
    Command(function=traffic, example="tidewheel models traffic bikes --strategy split --arm 1=0.7 --arm 2=0.3"),
    Command(function=learn, example="tidewheel models learn bikes"),
)
