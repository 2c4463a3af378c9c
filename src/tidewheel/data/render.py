"""Profiles and schemas as rows of a table, for the command line and the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tidewheel.data.records import ColumnSchema, Schema
from tidewheel.stats.column import ColumnProfile
from tidewheel.stats.profile import Profile
from tidewheel.stats.quantile_sketch import histogram

Cell = str | int | float | None


class Rows(NamedTuple):
    """A table to be shown."""

    columns: tuple[str, ...]  # headings
    rows: list[tuple[Cell, ...]]  # one tuple per line


def profile_rows(profile: Profile) -> Rows:
    """Return one line per column of a profile: counts, range, mean, quantiles, distinct and top values, histogram."""
    headings = (
        *("column", "type", "rows", "missing", "distinct"),
        *("min", "5%", "mean", "median", "95%", "max", "most frequent", "histogram"),
    )
    return Rows(headings, [_profile_row(name, column) for name, column in profile.columns.items()])


def schema_rows(schema: Schema) -> Rows:
    """Return one line per column of a schema."""
    headings = ("column", "type", "role", "missing so far", "range", "categories")
    return Rows(headings, [_schema_row(column, schema) for column in schema.columns])


def _profile_row(name: str, column: ColumnProfile) -> tuple[Cell, ...]:
    low, five, middle, most, high = (
        _value(column, value)
        for value in (column.min, column.quantile(0.05), column.quantile(0.5), column.quantile(0.95), column.max)
    )
    mean = _value(column, column.mean)
    counts = (column.count, column.missing, column.distinct)
    return (name, column.dtype, *counts, low, five, mean, middle, most, high, _top(column), _bars(column))


def _value(column: ColumnProfile, value: float | None) -> Cell:
    if value is None:
        return None
    if column.kind != "temporal":
        return int(value) if column.dtype == "int" and value == int(value) else value
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    return moment.date().isoformat() if column.dtype == "date" else moment.isoformat(timespec="seconds")


def _top(column: ColumnProfile) -> str:
    """Return up to three frequent values; those whose count could be chance alone are left out."""
    about = "≥" if column.top.error else ""
    counted = zip(column.top.values, column.top.counts, strict=True)
    pairs = [(value, count) for value, count in counted if count > column.top.error][:3]
    return ", ".join(f"{_value(column, v) if isinstance(v, float) else v} ({about}{n})" for v, n in pairs)


def _bars(column: ColumnProfile) -> str:
    """Return up to 16 bars of eight heights; numbers in equal widths between the 1st and the 99th percentile."""
    counts = _heights(column)
    top = max(counts, default=0.0)
    return "".join("▁▂▃▄▅▆▇█"[min(int(8 * count / top), 7)] if count else " " for count in counts) if top else ""


def _heights(column: ColumnProfile, bars: int = 16) -> list[float]:
    if column.kind in {"categorical", "boolean"}:
        return [float(count) for count in column.top.counts[:bars]]
    low, high = column.quantile(0.01), column.quantile(0.99)
    if low is None or high is None or high <= low:
        return []
    return histogram(column.spread, [low + (high - low) * index / bars for index in range(bars + 1)])


def _schema_row(column: ColumnSchema, schema: Schema) -> tuple[Cell, ...]:
    role = "time" if column.name == schema.time else "label" if column.name == schema.label else ""
    span = f"{column.low:g} to {column.high:g}" if column.low is not None and column.high is not None else ""
    known = column.categories or []
    categories = ", ".join(known[:6]) + (f", ... ({len(known)})" if len(known) > 6 else "")
    return (column.name, column.detail or column.type, role, f"{column.missing:.1%}", span, categories)
