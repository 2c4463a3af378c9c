"""Choose the columns that a step works on, and refuse rows that it cannot work with."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from tidewheel.errors import InvalidInput, NotFound


def refuse_empty(rows: pl.DataFrame, what: str) -> None:
    """Raise InvalidInput for a frame without rows or columns; `what` is what it was wanted for."""
    if not rows.width or not rows.height:
        raise InvalidInput(
            f"There is nothing to {what}: the frame has {rows.height} rows and {rows.width} columns.",
            "Look at the step before; perhaps a filter let nothing through.",
        )


def check_columns(rows: pl.DataFrame, names: Sequence[str]) -> None:
    """Raise NotFound, with near names, for a column that the frame does not have."""
    for name in names:
        if name not in rows.columns:
            raise NotFound("column", name, rows.columns)


def numeric_columns(rows: pl.DataFrame, names: Sequence[str] | None, label: str | None) -> list[str]:
    """Return the named columns, or all numeric ones but the label.

    Raises NotFound for a name that is not there, InvalidInput for a column without numbers and for none at all.
    """
    if names is None:
        names = [name for name, dtype in rows.schema.items() if dtype.is_numeric() and name != label]
    check_columns(rows, names)
    for name in names:
        if not rows.schema[name].is_numeric():
            raise InvalidInput(
                f"The column {name!r} holds {rows.schema[name]}, not numbers.",
                "Leave it out of `columns`, encode it first, or cast it to numbers.",
            )
    return _some(names, rows, "numeric")


def text_columns(rows: pl.DataFrame, names: Sequence[str] | None, label: str | None) -> list[str]:
    """Return the named columns, or all of texts, categories and booleans but the label; raises as `numeric_columns`."""
    if names is None:
        names = [name for name, dtype in rows.schema.items() if _is_text(dtype) and name != label]
    check_columns(rows, names)
    for name in names:
        if not (_is_text(rows.schema[name]) or rows.schema[name].is_integer()):
            raise InvalidInput(
                f"The column {name!r} holds {rows.schema[name]}, which has no categories.",
                "Leave it out of `columns`, or cut it into ranges first.",
            )
    return _some(names, rows, "text")


def missing_in(values: pl.Series) -> pl.Series:
    """Return true where a value is null or not a number."""
    return values.is_null() | values.is_nan().fill_null(value=False) if values.dtype.is_float() else values.is_null()


def refuse_missing(rows: pl.DataFrame, names: Sequence[str], mend: str) -> None:
    """Raise InvalidInput, with the first place, where a column holds a null, NaN or an infinite number."""
    for name in names:
        gone = missing_in(rows[name])
        if gone.any():
            raise InvalidInput(
                f"{gone.sum()} of {rows.height} values of {name!r} are missing (first in row {gone.arg_max()}).", mend
            )
        if rows.schema[name].is_float() and not rows[name].is_finite().all():
            row = (~rows[name].is_finite()).arg_max()
            raise InvalidInput(
                f"The column {name!r} holds infinite numbers (first in row {row}).",
                "Replace them by nulls or bounds: a division by zero is the usual cause.",
            )


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean)


def _some(names: Sequence[str], rows: pl.DataFrame, kind: str) -> list[str]:
    if not names:
        raise InvalidInput(
            f"No {kind} column was found among {', '.join(rows.columns)}.", "Name the columns: columns=[...]."
        )
    return list(names)
