"""Stop a run whose rows are not what they should be."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from tidewheel.data.conform import conform
from tidewheel.data.findings import error, errors_of, findings_table, ordered
from tidewheel.data.records import Finding, Schema
from tidewheel.data.schema import infer_schema
from tidewheel.data.validate import validate_frame
from tidewheel.errors import InvalidInput, ValidationFailed
from tidewheel.pipelines.step import step
from tidewheel.stats.profile import profile_frame
from tidewheel.steps.columns import check_columns, missing_in, refuse_empty


@step
def learn_schema(rows: pl.DataFrame, label: str | None = None, time: str | None = None) -> Schema:
    """Return what rows that are known to be good suggest to expect: types, gaps, ranges, categories.

    >>> learn_schema(pl.DataFrame({"hour": [1, 2, 3]})).columns[0].high
    3.0

    Raises InvalidInput for an empty frame, NotFound for a label or time column that is not there.
    """
    refuse_empty(rows, "learn a schema from")
    check_columns(rows, [name for name in (label, time) if name is not None])
    return infer_schema(profile_frame(rows), time=time, label=label)


@step
def validate(
    rows: pl.DataFrame,
    schema: Schema | None = None,
    ranges: Mapping[str, tuple[float | None, float | None]] | None = None,
    unique: list[str] | None = None,
    *,
    strict: bool = False,
) -> pl.DataFrame:
    """Return the rows unchanged when they fit, with the schema's types; what is only a warning is printed to the log.

    `schema` is what `learn_schema` returned, or a dataset's; `ranges` names the smallest and largest value of a
    column, both inclusive, None for no bound (a missing value is outside); `unique` are columns that together occur
    once; `strict` makes warnings errors.

    >>> validate(pl.DataFrame({"hour": [3, 9]}), ranges={"hour": (0, 23)}).height
    2

    Raises ValidationFailed with every finding, InvalidInput for an empty frame or a range that cannot be.
    """
    refuse_empty(rows, "validate")
    found: list[Finding] = []
    if schema is not None:
        found += validate_frame(rows, schema)
        rows = rows if errors_of(found) else conform(rows, schema).frame
    for name, (low, high) in (ranges or {}).items():
        found += _outside(rows, name, low, high)
    found += _repeated(rows, unique or [])
    refused = found if strict else errors_of(found)
    if refused:
        count = f"{len(refused)} finding{'s' if len(refused) > 1 else ''}"
        raise ValidationFailed(
            f"The {rows.height} rows are refused: {count}.\n{findings_table(found)}",
            "Mend the rows or what is expected of them.",
            ordered(found),
        )
    if found:
        print(findings_table(found))  # noqa: T201 - a step's output is its log
    return rows


def _outside(rows: pl.DataFrame, name: str, low: float | None, high: float | None) -> list[Finding]:
    check_columns(rows, [name])
    if low is not None and high is not None and low > high:
        raise InvalidInput(f"The range of {name!r} is empty: {low} to {high}.", "Give (smallest, largest).")
    values = rows[name]
    if not values.dtype.is_numeric():
        raise InvalidInput(
            f"The column {name!r} holds {values.dtype}, which has no range.", "Leave it out of `ranges`, or cast it."
        )
    bad = missing_in(values)
    bad = bad if low is None else bad | (values < low).fill_null(value=False)
    bad = bad if high is None else bad | (values > high).fill_null(value=False)
    if not bad.any():
        return []
    wanted = f"{'-inf' if low is None else low} to {'inf' if high is None else high}"
    seen = f"{bad.sum()} of {rows.height}, first {values[bad.arg_max() or 0]} in row {bad.arg_max()}"
    return [error(name, "range", wanted, seen, f"Values of {name!r} lie outside of what they may be.")]


def _repeated(rows: pl.DataFrame, names: list[str]) -> list[Finding]:
    if not names:
        return []
    check_columns(rows, names)
    twice = rows.select(names).is_duplicated()
    if not twice.any():
        return []
    shown = ", ".join(f"{name}={rows[name][twice.arg_max() or 0]!r}" for name in names)
    message = f"Rows occur more than once with the same {', '.join(names)}."
    return [error(names[0], "repeated", "each once", f"{twice.sum()} rows, first {shown}", message)]
