"""Turn labelled predictions into rows of the dataset, and tell which of them do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from tidewheel.clock import from_micros
from tidewheel.data.records import ColumnSchema, Finding, Schema
from tidewheel.data.validate import validate_frame
from tidewheel.predictions.join import LabelledRow

TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int, float),
    "float": (int, float),
    "string": (str,),
    "boolean": (bool,),
}
LARGEST = 2**63
SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """Labelled rows, sorted into those that can be kept and those that cannot."""

    frame: pl.DataFrame  # rows that fit, in all columns of the dataset
    refused: pl.DataFrame  # rows of the right types whose values do not fit
    problems: Sequence[str]  # why rows were refused, in words, the first few
    lost: int  # how many rows do not fit, of whatever kind


def sort_rows(rows: Sequence[LabelledRow], names: Mapping[int, Sequence[str]], schema: Schema, label: str) -> Sorted:
    """Return the rows as a table of the dataset; `names` are the features of each model version.

    A column of the dataset that the model is not asked with, or that is redacted in the log, stays empty; the time
    column is the moment of the prediction. One bad label costs one row, not its neighbours.
    """
    records: list[dict[str, Any]] = []
    problems: list[str] = []
    for row in rows:
        served = zip(names[row.prediction.version], row.prediction.features[row.row], strict=True)
        redacted = row.prediction.redacted
        record: dict[str, Any] = {name: value for place, (name, value) in enumerate(served) if place not in redacted}
        record[label] = row.label
        if schema.time is not None and schema.time not in record:
            record[schema.time] = from_micros(row.prediction.at)
        problem = _misfit(record, schema)
        if problem:
            problems.append(f"{row.id}: {problem}")
        else:
            records.append(record)
    frame = pl.DataFrame([_series(column, records) for column in schema.columns])
    sound, findings = _sound(frame, schema, {name for record in records for name in record})
    problems += [finding.message for finding in findings]
    return Sorted(
        frame=frame.filter(sound),
        refused=frame.filter(~sound),
        problems=problems[:SHOWN],
        lost=len(rows) - int(sound.sum()),
    )


def _misfit(record: Mapping[str, Any], schema: Schema) -> str:
    for column in schema.columns:
        value, wanted = record.get(column.name), TYPES.get(column.type)
        if value is None or wanted is None:
            continue
        boolean = isinstance(value, bool) and bool not in wanted
        if not isinstance(value, wanted) or boolean or (isinstance(value, int) and abs(value) >= LARGEST):
            return f"{column.name} = {value!r:.60} is not {column.type}"
    return ""


def _series(column: ColumnSchema, records: Sequence[Mapping[str, Any]]) -> pl.Series:
    values = [record.get(column.name) for record in records]
    if any(isinstance(value, float) for value in values):
        return pl.Series(column.name, values, dtype=pl.Float64, strict=False)
    return pl.Series(column.name, values)


def _sound(frame: pl.DataFrame, schema: Schema, known: set[str]) -> tuple[pl.Series, list[Finding]]:
    """Return which rows fit, and the errors of those that do not; only columns that are known are judged."""
    judged = msgspec.structs.replace(schema, columns=[column for column in schema.columns if column.name in known])
    sound = pl.Series([True] * frame.height, dtype=pl.Boolean)
    if not frame.height:
        return sound, []
    names = [column.name for column in judged.columns]
    errors = _errors(frame.select(names), judged)
    for finding in errors:
        if finding.column in frame.columns:
            sound &= ~_damaged(frame[finding.column])
    if errors and (not sound.any() or _errors(frame.filter(sound).select(names), judged)):
        sound = pl.Series([False] * frame.height, dtype=pl.Boolean)  # what is wrong cannot be pinned on single rows
    return sound, errors


def _errors(frame: pl.DataFrame, schema: Schema) -> list[Finding]:
    return [finding for finding in validate_frame(frame, schema) if finding.severity == "error"]


def _damaged(series: pl.Series) -> pl.Series:
    empty = series.is_null()
    return empty | ~series.is_finite().fill_null(value=True) if series.dtype == pl.Float64 else empty
