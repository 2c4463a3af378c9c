"""Infer what to expect of the next rows from a profile of those so far."""

from __future__ import annotations

from tidewheel.data.records import ColumnSchema, Schema
from tidewheel.stats.column import ColumnProfile
from tidewheel.stats.profile import Profile

NULL_TOLERANCE = 0.01  # a column with a smaller share of missing values counts as one that should have none


def infer_schema(
    profile: Profile, *, time: str | None = None, label: str | None = None, details: dict[str, str] | None = None
) -> Schema:
    """Return the schema that a profile suggests: types, whether values may be missing, ranges, known categories.

    `details` holds the full types of nested columns. Categories are listed where all of them are known and each
    occurs twice or more on average: a column of identifiers has none.

    >>> import polars as pl
    >>> from tidewheel.stats.profile import profile_frame
    >>> schema = infer_schema(profile_frame(pl.DataFrame({"sky": ["clear", "rain", "clear", "rain"]})))
    >>> schema.columns[0].type, schema.columns[0].categories
    ('string', ['clear', 'rain'])
    """
    columns = [_column(name, column, (details or {}).get(name, "")) for name, column in profile.columns.items()]
    return Schema(columns=columns, time=time, label=label)


def _column(name: str, column: ColumnProfile, detail: str) -> ColumnSchema:
    missing = column.missing / column.count if column.count else 0.0
    numeric = column.kind == "numeric"
    return ColumnSchema(
        name=name,
        type=column.dtype,
        detail=detail,
        nullable=missing > NULL_TOLERANCE,
        missing=missing,
        low=column.min if numeric else None,
        high=column.max if numeric else None,
        categories=_categories(column),
        distinct=column.distinct,
    )


def _categories(column: ColumnProfile) -> list[str] | None:
    if not column.values_known or not column.top.values:
        return None
    values = [str(value) for value in column.top.values]
    present = column.count - column.missing
    return sorted(values) if column.kind == "boolean" or present >= 2 * len(values) else None
