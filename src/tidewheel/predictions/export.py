"""A model's log as one table: a row for each predicted row, a column for each feature, the truth beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tidewheel.clock import from_micros
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.reader import Cursor, LogReader
from tidewheel.predictions.records import Prediction, row_id

AT_ONCE = 20_000  # records in memory
OWN = ("id", "at", "version", "arm", "route", "propensity", "unit", "status", "latency_us", "prediction", "error")

Names = Callable[[int], Sequence[str]]


def export_log(folder: Path, place: Path, names: Names, *, labels: bool = False) -> int:
    """Write a log as Parquet, or as CSV where the name says so, and return how many rows it has.

    `names` are the features of a model version; a column that a feature of the same name would hide is called
    `log_<name>`. With `labels` only rows whose truth is known are written, with the column `label`.
    """
    import polars as pl

    parts = [
        pl.DataFrame(rows, infer_schema_length=None, strict=False) for rows in _batches(folder, names, labels=labels)
    ]
    frame = pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".csv":
        frame.write_csv(place)
    else:
        frame.write_parquet(place)
    return frame.height


def _batches(folder: Path, names: Names, *, labels: bool) -> Iterator[list[dict[str, Any]]]:
    more, cursor = True, Cursor()
    reader, joiner = LogReader(folder, Prediction), Joiner(folder)
    while more:
        if labels:
            found = joiner.labelled(cursor, limit=AT_ONCE)
            cursor, more = found.cursor, found.more
            rows = [_row(row.prediction, row.row, names) | {"label": row.label} for row in found.rows]
        else:
            batch = reader.read(cursor, limit=AT_ONCE)
            cursor, more = batch.cursor, len(batch.records) == AT_ONCE
            rows = [_row(each, place, names) for each in batch.records for place in range(max(len(each.output), 1))]
        if rows:
            yield rows


def _row(record: Prediction, place: int, names: Names) -> dict[str, Any]:
    known = (
        dict(zip(names(record.version), record.features[place], strict=False)) if place < len(record.features) else {}
    )
    own: dict[str, Any] = {name: getattr(record, name, None) for name in OWN}
    own["id"] = row_id(record.id, place, max(len(record.output), 1))
    own["at"] = from_micros(record.at)
    own["prediction"] = record.output[place] if place < len(record.output) else None
    return {(f"log_{name}" if name in known else name): value for name, value in own.items()} | known
