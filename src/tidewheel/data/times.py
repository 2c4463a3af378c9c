"""Moments as this house keeps them: microseconds, UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

UTC_MICROSECONDS = pl.Datetime("us", "UTC")


class Moments(NamedTuple):
    """A column of moments and whether its time zone had to be assumed."""

    series: pl.Series  # Datetime("us", "UTC")
    naive: bool  # True: some or all values had no time zone and were taken as UTC


def to_utc(series: pl.Series) -> Moments | None:
    """Return dates, datetimes or ISO 8601 texts as microseconds in UTC; None when that cannot be done.

    >>> to_utc(pl.Series(["2026-01-01T02:00:00+02:00"])).series.to_list()[0].hour
    0
    """
    if series.dtype == pl.Date:
        return Moments(series.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), naive=False)
    if series.dtype == pl.Datetime:
        zone = getattr(series.dtype, "time_zone", None)
        moments = series.dt.cast_time_unit("us")
        if zone is None:
            return Moments(moments.dt.replace_time_zone("UTC"), naive=True)
        return Moments(moments.dt.convert_time_zone("UTC"), naive=False)
    if series.dtype == pl.String:
        return _parsed(series)
    return None


def unreadable(series: pl.Series) -> tuple[int, object] | None:
    """Return index and value of the first text that is no ISO 8601 moment."""
    for index, value in enumerate(series):
        if value is not None and not (isinstance(value, str) and _moment(value)):
            return index, value
    return None


def _parsed(series: pl.Series) -> Moments | None:
    """Parse texts one by one: a column may mix offsets and forms, which a single format cannot hold."""
    moments: list[datetime | None] = []
    naive = False
    for value in series:
        found = None if value is None else _moment(value)
        if found is None and value is not None:
            return None
        if found is not None and found.tzinfo is None:
            naive = True
            found = found.replace(tzinfo=UTC)
        moments.append(None if found is None else found.astimezone(UTC))
    return Moments(pl.Series(series.name, moments, dtype=UTC_MICROSECONDS), naive=naive)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None
