"""Check a table against a schema; numbers that drift are warnings, broken tables are errors."""

from __future__ import annotations

import math

import polars as pl

from tidewheel.data.conform import conform
from tidewheel.data.findings import error, ordered, warning
from tidewheel.data.records import ColumnSchema, Finding, Schema
from tidewheel.data.schema import NULL_TOLERANCE
from tidewheel.stats.column import ColumnProfile
from tidewheel.stats.profile import Profile, profile_frame

ENOUGH_ROWS = 50  # below that a column of one value says nothing


def validate_frame(frame: pl.DataFrame, schema: Schema) -> list[Finding]:
    """Return every deviation of a table from a schema, errors first; an empty list means that it fits.

    Errors: missing and mistyped columns, missing values where there were (nearly) none, infinite values, a time column
    with gaps. Warnings: extra columns, numbers beyond the range so far, unseen categories, columns that fell silent.

    >>> from tidewheel.data.schema import infer_schema
    >>> schema = infer_schema(profile_frame(pl.DataFrame({"hour": [1, 2, 3]})))
    >>> [(finding.code, finding.severity) for finding in validate_frame(pl.DataFrame({"hour": [9]}), schema)]
    [('range', 'warning')]
    """
    fitted = conform(frame, schema)
    return ordered([*fitted.findings, *check_values(fitted.frame, profile_frame(fitted.frame), schema)])


def check_values(frame: pl.DataFrame, profile: Profile, schema: Schema) -> list[Finding]:
    """Return deviations of the values of a table that already has the columns and types of the schema."""
    findings: list[Finding] = []
    for expected in schema.columns:
        column = profile.columns.get(expected.name)
        if column is None or column.count == 0:
            continue
        findings += _gaps(column, expected, schema)
        findings += _infinite(expected.name, column)
        findings += _range(frame, column, expected)
        findings += _unseen(column, expected, schema)
        if column.distinct == 1 and expected.distinct > 1 and column.count >= ENOUGH_ROWS:
            findings.append(_constant(expected.name, column, f"{expected.distinct} values so far"))
    return findings


def check_first(profile: Profile, schema: Schema) -> list[Finding]:
    """Return what is wrong with the rows of a first version, for which there is nothing to compare with."""
    findings: list[Finding] = []
    for expected in schema.columns:
        column = profile.columns[expected.name]
        findings += _infinite(expected.name, column)
        if expected.name == schema.time and column.missing:
            findings.append(_time_gaps(expected.name, column))
        elif column.missing == column.count:
            findings.append(_all_null(expected.name, column, "warning"))
        elif expected.name == schema.label:
            findings += _label(expected.name, column)
        elif column.distinct == 1 and column.count > 1:
            findings.append(_constant(expected.name, column, "more than one value"))
    return findings


def _gaps(column: ColumnProfile, expected: ColumnSchema, schema: Schema) -> list[Finding]:
    name, missing = expected.name, column.missing
    if not missing:
        return []
    if name == schema.time:
        return [_time_gaps(name, column)]
    if missing == column.count and expected.missing < 1.0 and (column.count > 2 or not expected.nullable):
        return [_all_null(name, column, "warning" if expected.nullable or column.count <= 2 else "error")]
    seen = f"{missing} of {column.count} ({missing / column.count:.1%})"
    if expected.nullable:
        if missing <= _bound(min(1.0, 2.0 * expected.missing + 0.05), column.count):
            return []
        message = f"Column {name!r} misses far more values than before; look at what fills it."
        return [warning(name, "nulls", f"about {expected.missing:.1%} missing", seen, message)]
    if missing > _bound(NULL_TOLERANCE, column.count):
        message = f"Column {name!r} had no missing values so far; fill them or find out why they are missing."
        return [error(name, "nulls", f"at most {NULL_TOLERANCE:.0%} missing", seen, message)]
    if expected.missing == 0.0:
        return [warning(name, "nulls", "none missing", seen, f"Column {name!r} had no missing values so far.")]
    return []


def _bound(share: float, rows: int) -> float:
    """Return how many of so many rows chance makes missing at that share: three standard deviations and one row more.

    In small batches a single gap is then no reason to stop.
    """
    return share * rows + 3.0 * math.sqrt(share * (1.0 - share) * rows) + 1.0


def _time_gaps(name: str, column: ColumnProfile) -> Finding:
    seen = f"{column.missing} of {column.count}"
    return error(name, "nulls", "none missing", seen, f"The time column {name!r} must say when every row happened.")


def _all_null(name: str, column: ColumnProfile, severity: str) -> Finding:
    make = error if severity == "error" else warning
    message = f"Column {name!r} holds no value at all; check what fills it, or leave it out."
    return make(name, "all_null", "values", f"{column.count} missing", message)


def _infinite(name: str, column: ColumnProfile) -> list[Finding]:
    if not column.infinities:
        return []
    message = f"Column {name!r} holds infinite numbers, which no model can be fitted on; replace them with nulls."
    return [error(name, "infinite", "finite numbers", f"{column.infinities} of {column.count}", message)]


def _range(frame: pl.DataFrame, column: ColumnProfile, expected: ColumnSchema) -> list[Finding]:
    if expected.low is None or expected.high is None or column.min is None or column.max is None:
        return []
    if column.min >= expected.low and column.max <= expected.high:
        return []
    values = frame[expected.name].cast(pl.Float64)
    outside = int(((values < expected.low) | ((values > expected.high) & values.is_finite())).sum() or 0)
    message = f"{outside} of {column.count} values of {expected.name!r} lie outside of what was seen so far."
    wanted, seen = f"{expected.low:g} to {expected.high:g}", f"{column.min:g} to {column.max:g}"
    return [warning(expected.name, "range", wanted, seen, message)]


def _unseen(column: ColumnProfile, expected: ColumnSchema, schema: Schema) -> list[Finding]:
    if expected.categories is None or column.kind not in {"categorical", "boolean"}:
        return []
    known = set(expected.categories)
    found = {
        str(value): count
        for value, count in zip(column.top.values, column.top.counts, strict=True)
        if str(value) not in known
    }
    if not found:
        return []
    listed = ", ".join(repr(value) for value in list(found)[:5]) + (", ..." if len(found) > 5 else "")
    what = "classes" if expected.name == schema.label else "values"
    message = f"{sum(found.values())} of {column.count} rows hold {what} of {expected.name!r} never seen before."
    return [warning(expected.name, "unseen", f"one of {len(known)} known {what}", listed, message)]


def _constant(name: str, column: ColumnProfile, expected: str) -> Finding:
    value = column.top.values[0] if column.top.values else ""
    return warning(
        name, "constant", expected, f"{value!r} throughout", f"Column {name!r} says nothing: one value only."
    )


def _label(name: str, column: ColumnProfile) -> list[Finding]:
    if column.distinct == 1 and column.count > 1:
        seen = f"{column.top.values[0]!r} throughout"
        message = f"The label {name!r} has one value only, so there is nothing to learn; add rows with other labels."
        return [error(name, "one_class", "two or more values", seen, message)]
    if column.missing > _bound(NULL_TOLERANCE, column.count):
        seen = f"{column.missing} of {column.count}"
        message = f"The label {name!r} is often missing; leave out the rows that have none."
        return [error(name, "nulls", f"at most {NULL_TOLERANCE:.0%} missing", seen, message)]
    return []
