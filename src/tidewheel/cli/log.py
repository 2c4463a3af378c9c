"""`tidewheel log`: what a model was asked and said."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tidewheel.cli.opened import opened, settings_for
from tidewheel.cli.show import HomeOption, JsonFlag, json_out

group = typer.Typer(
    help="The prediction log of a model: follow, compact, export.",
    epilog="Example: tidewheel log tail bikes --follow",
    no_args_is_help=True,
)
Model = Annotated[str, typer.Argument(help="Name of the model.")]
FOLLOW_SECONDS = 0.2
NEWEST = 8  # segments: as many as workers write at a time


@group.command(epilog="Example: tidewheel log tail bikes --follow")
def tail(
    *,
    model: Model,
    number: Annotated[int, typer.Option("--number", "-n", help="How many of the last ones.", min=0)] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Print the last requests as they stand in the log: a line each."""
    from tidewheel.app import log_of
    from tidewheel.predictions.reader import LogReader
    from tidewheel.predictions.records import Prediction

    with opened(home) as store:
        folder = log_of(store, model)
    reader = LogReader(folder, Prediction)
    batch = reader.read(_near_end(reader.end()))
    for record in batch.records[len(batch.records) - number :] if number else ():
        _show(record, as_json=json)
    while follow:
        time.sleep(FOLLOW_SECONDS)
        batch = reader.read(batch.cursor)
        for record in batch.records:
            _show(record, as_json=json)


@group.command(epilog="Example: tidewheel log compact bikes")
def compact(
    *,
    model: Annotated[str, typer.Argument(help="Name of the model; without it, all.")] = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Rewrite closed segments as Parquet by day, and delete days that are too old by the rule log.<model>.days."""
    from tidewheel.app import compact_logs

    with opened(home) as store:
        found = compact_logs(store, settings_for(home), model)
    if json:
        json_out(found)
        return
    for name, done in found.items():
        sizes = f"{done.size_before:,} bytes became {done.size_after:,}"
        print(f"{name}: {done.segments} segments, {done.records:,} records; {sizes}; {done.deleted} old files deleted.")
    if not found:
        print("Nothing was ever logged.")


@group.command(epilog="Example: tidewheel log export bikes asked.parquet")
def export(
    *,
    model: Model,
    place: Annotated[Path, typer.Argument(help="File to write: .parquet or .csv.")],
    labels: Annotated[bool, typer.Option("--labels", help="Only rows whose truth is known, with it.")] = False,
    home: HomeOption = "",
) -> None:
    """Write the log as a table: a row for each predicted row, a column for each feature."""
    from tidewheel.app import export_log

    with opened(home) as store:
        rows = export_log(store, model, place, labels=labels)
    print(f"{rows:,} rows in {place}.")


def _near_end(ends: dict[str, int]) -> dict[str, int]:
    """Leave the newest segments to be read."""
    return {name: ends[name] for name in sorted(ends)[:-NEWEST]}


def _show(record: Any, *, as_json: bool) -> None:
    from tidewheel.clock import from_micros

    if as_json:
        json_out(record)
        return
    said = record.error or ", ".join(map(str, record.output[:5]))
    moment = f"{from_micros(record.at):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    which = f"{record.model}:{record.version} {record.arm}/{record.route}"
    print(f"{moment} {record.status} {which} {record.latency_us / 1e3:.2f} ms {record.id} {said}", flush=True)
