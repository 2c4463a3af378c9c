"""Bring a table to the types that are kept, or to those of a schema, and say where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import polars as pl

from tidewheel.data.findings import error, warning
from tidewheel.data.records import ColumnSchema, Finding, Schema
from tidewheel.data.times import UTC_MICROSECONDS, to_utc, unreadable
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.stats.column import Dtype
from tidewheel.stats.profile import logical_type

KEPT: dict[Dtype, Any] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    "datetime": UTC_MICROSECONDS,
    "date": pl.Date(),
    "null": pl.Null(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformed:
    """A table in the types that are kept, and what had to be said about it."""

    frame: pl.DataFrame  # the rows
    findings: list[Finding]  # deviations of columns and types
    naive: list[str]  # columns of moments without time zone, taken as UTC


def settle(frame: pl.DataFrame, *, time: str | None, label: str | None) -> Conformed:
    """Return a first table in the types that are kept: whole numbers, floats, texts, booleans, dates, UTC moments.

    Raises NotFound when the time or label column is not there, InvalidInput when the time column holds no moments or
    a column has a type that cannot be kept.
    """
    for role in (time, label):
        if role is not None and role not in frame.columns:
            raise NotFound("column", role, frame.columns)
    naive: list[str] = []
    columns = [_settled(series, naive, is_time=series.name == time) for series in frame.get_columns()]
    findings = [_naive_finding(name) for name in naive]
    return Conformed(frame=pl.DataFrame(columns), findings=findings, naive=naive)


def conform(frame: pl.DataFrame, schema: Schema, *, evolve: bool = False) -> Conformed:
    """Return a table in the columns and types of a schema; what cannot be brought to them is left out and found.

    A column that the schema lacks is left out with a warning, or kept with `evolve`. Whole numbers become floats where
    floats are expected; floats where whole numbers are expected widen the column, with a warning.
    """
    naive: list[str] = []
    findings: list[Finding] = []
    columns: list[pl.Series] = []
    for expected in schema.columns:
        if expected.name not in frame.columns:
            findings.append(_missing(expected, frame.columns))
            continue
        fitted = _as_expected(frame[expected.name], expected, naive)
        if fitted is None:
            findings.append(_mistyped(frame[expected.name], expected))
            continue
        columns.append(fitted)
        if expected.type == "int" and fitted.dtype == pl.Float64:
            findings.append(_widened(expected.name))
    for series in frame.get_columns():
        if schema.column(series.name) is None:
            findings.append(_extra(series, evolve=evolve))
            columns += [_settled(series, naive, is_time=False)] if evolve else []
    findings += [_naive_finding(name) for name in naive]
    return Conformed(frame=pl.DataFrame(columns), findings=findings, naive=naive)


def _settled(series: pl.Series, naive: list[str], *, is_time: bool) -> pl.Series:
    dtype = logical_type(series.dtype)
    if is_time or dtype == "datetime":
        moments = to_utc(series)
        if moments is None:
            raise _no_time(series)
        if moments.naive:
            naive.append(series.name)
        return moments.series
    if series.null_count() == len(series):
        return pl.Series(series.name, [None] * len(series), dtype=pl.Null)
    if dtype == "other":
        if series.dtype == pl.Object:
            raise InvalidInput(
                f"Column {series.name!r} holds Python objects.", "Turn it into numbers, texts or booleans first."
            )
        return series
    try:
        return series.cast(KEPT[dtype])
    except pl.exceptions.PolarsError as problem:
        raise InvalidInput(
            f"Column {series.name!r} ({series.dtype}) holds numbers beyond 64-bit whole numbers.",
            "Turn it into floats or texts first.",
        ) from problem


def _no_time(series: pl.Series) -> InvalidInput:
    stray = unreadable(series) if series.dtype == pl.String else None
    seen = f"{stray[1]!r} in row {stray[0] + 1}" if stray else f"{series.dtype} values"
    return InvalidInput(
        f"The time column {series.name!r} holds {seen}, not moments.",
        "Use dates, datetimes or ISO 8601 texts such as 2026-01-31T12:00:00Z.",
    )


def _as_expected(series: pl.Series, expected: ColumnSchema, naive: list[str]) -> pl.Series | None:
    """Return the column in the expected type, or None when it is of another type."""
    dtype = logical_type(series.dtype)
    if expected.type == "null":
        return _settled(series, naive, is_time=False)
    if series.null_count() == len(series):
        return series.cast(KEPT[expected.type]) if expected.type in KEPT else series
    if expected.type == "other":
        return series if str(series.dtype) == expected.detail else None
    convert = _CONVERSIONS.get((dtype, expected.type))
    found = convert(series) if convert else None
    if found is not None and expected.type == "datetime" and _is_naive(series):
        naive.append(series.name)
    return found


def _is_naive(series: pl.Series) -> bool:
    moments = to_utc(series)
    return moments is not None and moments.naive


def _plain(dtype: Dtype) -> Callable[[pl.Series], pl.Series | None]:
    def cast(series: pl.Series) -> pl.Series | None:
        try:
            return series.cast(KEPT[dtype])
        except pl.exceptions.PolarsError:
            return None

    return cast


def _whole(series: pl.Series) -> pl.Series:
    """Return floats as whole numbers where all of them are; pandas writes whole numbers with gaps as floats."""
    floats = series.cast(pl.Float64).fill_nan(None)
    present = floats.drop_nulls()
    whole = bool(((present == present.round()) & (present.abs() < 2**53)).all())
    return floats.cast(pl.Int64) if whole else series.cast(pl.Float64)


def _moments(series: pl.Series) -> pl.Series | None:
    moments = to_utc(series)
    return None if moments is None else moments.series


def _dates(series: pl.Series) -> pl.Series | None:
    moments = _moments(series)
    if moments is None or not bool((moments.dt.truncate("1d") == moments).all()):
        return None
    return moments.dt.date()


_CONVERSIONS: dict[tuple[Dtype, Dtype], Callable[[pl.Series], pl.Series | None]] = {
    ("int", "int"): _plain("int"),
    ("int", "float"): _plain("float"),
    ("float", "float"): _plain("float"),
    ("float", "int"): _whole,
    ("string", "string"): _plain("string"),
    ("boolean", "boolean"): _plain("boolean"),
    ("datetime", "datetime"): _moments,
    ("date", "datetime"): _moments,
    ("string", "datetime"): _moments,
    ("date", "date"): _plain("date"),
    ("datetime", "date"): _dates,
    ("string", "date"): _dates,
}


def _mistyped(series: pl.Series, expected: ColumnSchema) -> Finding:
    dtype = logical_type(series.dtype)
    sample = _stray(series, expected)
    seen = f"{series.dtype if dtype == 'other' else dtype}{f', {sample}' if sample else ''}"
    message = f"Column {series.name!r} should hold {expected.type} and holds {dtype}; convert it before appending."
    return error(series.name, "mistyped", expected.detail or expected.type, seen, message)


def _stray(series: pl.Series, expected: ColumnSchema) -> str:
    """Return the first value that does not fit, with its row."""
    present = series.is_not_null()
    if series.dtype == pl.String and expected.type in {"int", "float"}:
        present &= series.cast(pl.Float64, strict=False).is_null()
    elif series.dtype == pl.String and expected.type in {"datetime", "date"}:
        stray = unreadable(series)
        return f"{stray[1]!r} in row {stray[0] + 1}" if stray else ""
    if not present.any():
        return ""
    row = int(present.arg_max() or 0)
    return f"{str(series[row])[:40]!r} in row {row + 1}"


def _missing(expected: ColumnSchema, present: list[str]) -> Finding:
    near = get_close_matches(expected.name, present, n=1, cutoff=0.7)
    hint = f"did you mean to rename {near[0]!r}?" if near else "add it, filled with nulls if it is unknown."
    seen = f"near: {near[0]}" if near else "nothing"
    return error(expected.name, "missing", expected.type, seen, f"Column {expected.name!r} is missing; {hint}")


def _extra(series: pl.Series, *, evolve: bool) -> Finding:
    dtype = logical_type(series.dtype)
    what = "was added to the dataset" if evolve else "was left out; append with evolve=True to take it in"
    return warning(series.name, "extra", "no such column", dtype, f"Column {series.name!r} is new and {what}.")


def _widened(name: str) -> Finding:
    message = f"Column {name!r} held whole numbers so far and holds fractions from now on."
    return warning(name, "widened", "int", "float", message)


def _naive_finding(name: str) -> Finding:
    message = f"The moments in {name!r} have no time zone; they were taken as UTC."
    return warning(name, "naive_time", "moments with time zone", "moments without", message)
