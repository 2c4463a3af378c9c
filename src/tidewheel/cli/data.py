"""`tidewheel data`: register, append, look at and check datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tidewheel.cli.opened import opened
from tidewheel.cli.show import By, HomeOption, JsonFlag, json_out, table, who

group = typer.Typer(
    help="Datasets: versions with profile, schema and findings.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="Name of the dataset, or name:3 for version 3.")]
Source = Annotated[Path, typer.Argument(help="A .csv, .parquet or .jsonl file.")]


@group.command(epilog="Example: tidewheel data register bikes bikes.csv --time event_time --label cnt")
def register(
    *,
    name: Name,
    source: Source,
    time: Annotated[str, typer.Option(help="Column that says when a row happened.")] = "",
    label: Annotated[str, typer.Option(help="Column to be predicted.")] = "",
    owner: Annotated[str, typer.Option(help="Who answers for the data.")] = "",
    by: By = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Keep a file as version 1 of a new dataset."""
    from tidewheel.data import datasets

    with opened(home) as store:
        kept = datasets.register(store, name, source, time=time or None, label=label or None, owner=owner, by=who(by))
    _say(kept, as_json=json)


@group.command(epilog="Example: tidewheel data append bikes march.csv")
def append(*, name: Name, source: Source, by: By = "", home: HomeOption = "", json: JsonFlag = False) -> None:
    """Check a file against the schema and keep it as the next version; findings stop it."""
    from tidewheel.data import datasets

    with opened(home) as store:
        kept = datasets.append(store, name, source, by=who(by))
    _say(kept, as_json=json)


def _say(kept: Any, *, as_json: bool) -> None:
    if as_json:
        json_out(kept)
    else:
        print(f"{kept.name}:{kept.seq} holds {kept.rows:,} rows ({kept.digest[:19]}...)")


@group.command("list", epilog="Example: tidewheel data list")
def list_(*, home: HomeOption = "", json: JsonFlag = False) -> None:
    """List the datasets."""
    from tidewheel.data import datasets

    with opened(home) as store:
        found = datasets.list_datasets(store)
    if json:
        json_out(found)
        return
    rows = ((item.name, item.seq, item.rows, item.time, item.label, item.at) for item in found)
    table(
        ("dataset", "version", "rows", "time", "label", "kept at"),
        rows,
        empty="No dataset yet. Keep one with: tidewheel data register NAME FILE.csv --time COLUMN --label COLUMN",
    )


@group.command(epilog="Example: tidewheel data profile bikes")
def profile(*, name: Name, home: HomeOption = "", json: JsonFlag = False) -> None:
    """Show what the columns hold: counts, nulls, range, mean, quantiles, distinct and top values."""
    from tidewheel.data import datasets

    with opened(home) as store:
        found = datasets.profile_of(store, name)
    if json:
        json_out(found)
        return
    from tidewheel.data.render import profile_rows

    columns, rows = profile_rows(found)
    rare = ("rows", "5%", "95%", "median", "most frequent")
    table(columns, rows, empty="The dataset has no columns.", wide_only=rare)


@group.command(epilog="Example: tidewheel data schema bikes")
def schema(*, name: Name, home: HomeOption = "", json: JsonFlag = False) -> None:
    """Show the schema that new versions are checked against."""
    from tidewheel.data import datasets

    with opened(home) as store:
        found = datasets.schema_of(store, name)
    if json:
        json_out(found)
        return
    from tidewheel.data.render import schema_rows

    columns, rows = schema_rows(found)
    table(columns, rows, empty="The dataset has no columns.")


@group.command(epilog="Example: tidewheel data findings bikes")
def findings(*, name: Name, home: HomeOption = "", json: JsonFlag = False) -> None:
    """Show what was found when versions were checked."""
    from tidewheel.data import datasets

    with opened(home) as store:
        found = datasets.findings_of(store, name)
    if json:
        json_out(found)
        return
    rows = ((item.column, item.severity, item.code, item.expected, item.seen, item.message) for item in found)
    table(
        ("column", "severity", "code", "expected", "seen", "message"),
        rows,
        empty=f"Nothing was found wrong with {name}.",
    )
