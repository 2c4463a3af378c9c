"""Bring numeric columns to one scale, learnt from the rows to train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns, numeric_columns, refuse_empty, refuse_missing

Method = Literal["standard", "range", "robust"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """Where each column has its zero and how long its unit is."""

    centre: Mapping[str, float]  # column to the value that becomes 0, in the column's unit
    spread: Mapping[str, float]  # column to the length that becomes 1, in the column's unit, above 0


@step
def fit_scaler(
    rows: pl.DataFrame,
    columns: list[str] | None = None,
    method: Method = "standard",
    label: str | None = None,
) -> Scaler:
    """Learn the scale of columns (all numeric ones but the label, unless they are named).

    "standard": mean 0, standard deviation 1 (divided by n); "range": smallest 0, largest 1; "robust": median 0,
    distance between the quartiles 1.

    >>> fit_scaler(pl.DataFrame({"hour": [1, 2, 3]}), method="range").spread
    {'hour': 2.0}

    Raises InvalidInput for an empty frame, missing or infinite values, and a column without any spread.
    """
    refuse_empty(rows, "learn a scale from")
    if method not in ("standard", "range", "robust"):
        raise InvalidInput(f"There is no scale {method!r}.", "Use standard, range or robust.")
    names = numeric_columns(rows, columns, label)
    refuse_missing(rows, names, "Fill them first, see tidewheel.steps.impute.")
    measured = {name: _measure(rows[name].cast(pl.Float64), method) for name in names}
    return Scaler(
        centre={name: centre for name, (centre, _) in measured.items()},
        spread={name: spread for name, (_, spread) in measured.items()},
    )


@step
def scale(rows: pl.DataFrame, scaler: Scaler) -> pl.DataFrame:
    """Return the rows with the columns of the scaler brought to its scale, as 64-bit real numbers; nulls stay nulls.

    >>> scale(pl.DataFrame({"hour": [1, 3]}), Scaler(centre={"hour": 1.0}, spread={"hour": 2.0}))["hour"].to_list()
    [0.0, 1.0]

    Raises NotFound for a column that is not there, InvalidInput for one without numbers.
    """
    names = list(scaler.centre)
    check_columns(rows, names)
    numeric_columns(rows, names, None)
    return rows.with_columns(
        (pl.col(name).cast(pl.Float64) - scaler.centre[name]) / scaler.spread[name] for name in names
    )


def _measure(values: pl.Series, method: Method) -> tuple[float, float]:
    low, high = _number(values.min()), _number(values.max())
    if method == "standard":
        centre, spread = _number(values.mean()), _number(values.std(ddof=0))
    elif method == "range":
        centre, spread = low, high - low
    else:
        lower, upper = (_number(values.quantile(share, "linear")) for share in (0.25, 0.75))
        centre, spread = _number(values.median()), upper - lower
    if low == high or not spread > 0:
        what = f"is {low:g} in every row" if low == high else f"has no {method} spread: it is mostly {centre:g}"
        raise InvalidInput(
            f"The column {values.name!r} {what}, so it has no scale.",
            "Leave it out: it says nothing, or another method fits it better.",
        )
    return centre, spread


def _number(value: object) -> float:
    return float(value)  # type: ignore[arg-type]  # Polars types its aggregates as any value
