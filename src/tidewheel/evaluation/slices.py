"""Cut rows into slices: by each value of a column, or by quarters of a numeric one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tidewheel.errors import InvalidInput, NotFound

MOST_VALUES = 12  # a numeric column with more distinct values is cut into quarters
MOST_SLICES = 50  # of one column; the most frequent values
LEAST_ROWS = 30  # fewer rows say nothing about a slice


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Rows that share something."""

    name: str  # "season=3", "temp<=0.34", "0.34<temp<=0.5", "temp is null"
    column: str  # the column that was cut
    rows: NDArray[np.int64]  # positions of its rows


def cut(rows: pl.DataFrame | None, columns: Sequence[str]) -> list[Slice]:
    """Return the slices of some columns, in the order of the columns.

    Texts, booleans and numbers of few distinct values are cut by value; other numbers and times into quarters at their
    quartiles. Nulls are a slice of their own.
    Raises NotFound with near names for a column that is not there, InvalidInput when slices are asked of no rows.

    >>> [part.name for part in cut(pl.DataFrame({"day": ["mo", "tu", "mo", None]}), ["day"])]
    ['day=mo', 'day=tu', 'day is null']
    """
    if not columns:
        return []
    if rows is None:
        raise InvalidInput(
            f"Slices by {', '.join(columns)} were asked for without rows.", "Give the rows that were scored."
        )
    for column in columns:
        if column not in rows.columns:
            raise NotFound("column", column, rows.columns)
    return [part for column in dict.fromkeys(columns) for part in _cut_column(rows[column])]


def _cut_column(values: pl.Series) -> Iterator[Slice]:
    name = values.name
    if values.dtype.is_decimal():
        values = values.cast(pl.Float64)
    if values.dtype.is_float():
        values = values.fill_nan(None)
    missing = values.is_null().to_numpy()
    parts: dict[str, NDArray[np.bool_]]
    ordered = values.dtype.is_numeric() or values.dtype.is_temporal()
    if ordered and values.drop_nulls().n_unique() > MOST_VALUES:
        parts = _quarters(values)
    else:
        counted = values.drop_nulls().value_counts(sort=True).head(MOST_SLICES)
        found = sorted(counted[name].to_list(), key=lambda value: (str(type(value)), value))
        parts = {
            f"{name}={written}": (values == value).fill_null(value=False).to_numpy()
            for value, written in zip(found, _written(found), strict=True)
        }
    if missing.any():
        parts[f"{name} is null"] = missing
    for title, mask in parts.items():
        yield Slice(name=title, column=name, rows=np.flatnonzero(mask))


def _quarters(values: pl.Series) -> dict[str, NDArray[np.bool_]]:
    name, ordered = values.name, values.drop_nulls().sort()
    top = ordered[-1]
    # A value that fills a quarter makes two quartiles equal, and the last part must not be empty either.
    quartiles = ordered.gather([(len(ordered) - 1) * quarter // 4 for quarter in (1, 2, 3)]).unique(maintain_order=True)
    edges = quartiles.filter(quartiles < top)
    if not len(edges):
        edges = ordered.filter(ordered < top).tail(1)
    texts = _written(edges.to_list())
    titles = [f"{name}<={texts[0]}", *(f"{low}<{name}<={high}" for low, high in itertools.pairwise(texts))]
    bounds, inside = edges.to_physical().to_numpy(), values.fill_null(top).to_physical().to_numpy()
    places = np.searchsorted(bounds, inside, side="left")
    there = values.is_not_null().to_numpy()
    return {title: there & (places == index) for index, title in enumerate([*titles, f"{name}>{texts[-1]}"])}


def _written(values: list[Any]) -> list[str]:
    texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    return texts if len(set(texts)) == len(texts) else [str(value) for value in values]
