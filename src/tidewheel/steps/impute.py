"""Fill missing values with what was learnt from the rows to train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns, missing_in, numeric_columns, refuse_empty

Strategy = Literal["mean", "median", "most_frequent", "constant"]
Plain = float | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Imputer:
    """What missing values are filled with."""

    values: Mapping[str, Any]  # column to its value
    real: tuple[str, ...]  # integer columns that become real numbers, because what fills them is one
    mark: bool  # whether a column NAME_missing says where something was filled


@step
def fit_imputer(
    rows: pl.DataFrame,
    columns: list[str] | None = None,
    strategy: Strategy = "median",
    *,
    constant: Plain | None = None,
    label: str | None = None,
    mark: bool = False,
) -> Imputer:
    """Learn what to fill the columns with; nulls and NaN count as missing.

    Without `columns` they are all numeric ones, or all for "most_frequent" (the smallest of those that tie), never
    the `label`. "constant" fills with `constant`. `mark` adds a column NAME_missing for each.

    >>> fit_imputer(pl.DataFrame({"hour": [1, None, 2, 9]})).values
    {'hour': 2.0}

    Raises InvalidInput for an empty frame, a column without any value, and a strategy that does not fit it.
    """
    refuse_empty(rows, "learn from")
    if strategy not in ("mean", "median", "most_frequent", "constant"):
        raise InvalidInput(f"There is no strategy {strategy!r}.", "Use mean, median, most_frequent or constant.")
    if (strategy == "constant") != (constant is not None):
        raise InvalidInput(
            f"strategy={strategy!r} and constant={constant!r} do not go together.",
            'Give strategy="constant" and constant=..., or neither.',
        )
    names = _chosen(rows, columns, strategy, label)
    values = {name: _value(rows[name], strategy, constant) for name in names}
    real = tuple(name for name in names if rows.schema[name].is_integer() and isinstance(values[name], float))
    return Imputer(values=values, real=real, mark=mark)


@step
def impute(rows: pl.DataFrame, imputer: Imputer) -> pl.DataFrame:
    """Return the rows with missing values filled; the same columns and types come out whatever is missing.

    >>> imputer = Imputer(values={"hour": 2.0}, real=(), mark=False)
    >>> impute(pl.DataFrame({"hour": [None, 4.0]}), imputer)["hour"].to_list()
    [2.0, 4.0]

    Raises NotFound for a column that is not there, InvalidInput where its type cannot hold the value.
    """
    check_columns(rows, list(imputer.values))
    return rows.with_columns([column for name in imputer.values for column in _filled(rows[name], name, imputer)])


def _chosen(rows: pl.DataFrame, columns: list[str] | None, strategy: Strategy, label: str | None) -> list[str]:
    if strategy in ("mean", "median"):
        return numeric_columns(rows, columns, label)
    names = [name for name in rows.columns if name != label] if columns is None else columns
    check_columns(rows, names)
    return list(names)


def _value(values: pl.Series, strategy: Strategy, constant: Plain | None) -> Any:
    there = values.filter(~missing_in(values))
    if strategy == "constant":
        return constant
    if there.is_empty():
        raise InvalidInput(
            f"The column {values.name!r} holds no value at all to learn from.",
            'Leave it out, or fill it with strategy="constant".',
        )
    if strategy == "most_frequent":
        return there.mode().sort()[0]
    return float(there.mean() if strategy == "mean" else there.median())  # type: ignore[arg-type]  # numeric


def _filled(values: pl.Series, name: str, imputer: Imputer) -> list[pl.Series]:
    gone = missing_in(values)
    fill = pl.Series([imputer.values[name]])
    if name in imputer.real or values.dtype == pl.Null:
        values = values.cast(fill.dtype, strict=False)
    if not _holds(values.dtype, fill):
        raise InvalidInput(
            f"The column {name!r} is {values.dtype} and cannot be filled with {imputer.values[name]!r}.",
            "Give it the type that it had when the imputer was fitted, or another value.",
        )
    filled = values.zip_with(~gone, fill.cast(values.dtype).new_from_index(0, len(values)))
    return [filled, gone.alias(f"{name}_missing")] if imputer.mark else [filled]


def _holds(dtype: pl.DataType, fill: pl.Series) -> bool:
    if dtype == fill.dtype or (dtype.is_numeric() and fill.dtype.is_numeric()):
        return True
    kinds = dtype in (pl.Categorical, pl.Enum) and fill.dtype == pl.String
    return kinds and fill.cast(dtype, strict=False).null_count() == 0
