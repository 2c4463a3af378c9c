"""Mergeable profiles of tables: what a table looks like, in a few kilobytes a column, comparable in O(bins).

Counts, quantiles, distinct and top values merge exactly or within a stated bound, whatever the cut into parts.
The cells (histogram or category table) are counted on fixed edges taken once from a reference; profiles on the same
edges add up, and two of them are compared without touching a row.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from tidewheel.clock import micros
from tidewheel.stats.cells import (
    Counts,
    Floats,
    category_key,
    count_categories,
    count_numbers,
    count_ordered,
    reference_edges,
    tally,
)
from tidewheel.stats.column import (
    MAX_CATEGORIES,
    NUMERIC_TOP,
    TEXT_LENGTH,
    ColumnProfile,
    Dtype,
    Kind,
    absent_column,
    merge_columns,
)
from tidewheel.stats.distinct import hash_floats, hash_texts, registers_of
from tidewheel.stats.frequent import Frequent, frequent_of
from tidewheel.stats.quantile_sketch import MAX_CELLS, sketch_of

__all__ = ["ColumnProfile", "Profile", "count_values", "count_window", "logical_type", "merge", "profile_frame"]

_KINDS: dict[Dtype, Kind] = {
    "int": "numeric",
    "float": "numeric",
    "string": "categorical",
    "boolean": "boolean",
    "datetime": "temporal",
    "date": "temporal",
    "null": "other",
    "other": "other",
}


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A table: its rows and one profile for each column, in column order.

    >>> profile = profile_frame(pl.DataFrame({"hour": [1, 2, 3], "sky": ["clear", "clear", None]}))
    >>> profile.columns["sky"].nulls, profile.columns["hour"].mean
    (1, 2.0)
    >>> msgspec.json.decode(msgspec.json.encode(profile), type=Profile) == profile
    True
    """

    rows: int  # rows of the table
    columns: dict[str, ColumnProfile]  # by column name


def profile_frame(frame: pl.DataFrame, *, edges_from: Profile | None = None) -> Profile:
    """Return the profile of a table, counted on the edges of `edges_from` where that has the column with the same kind.

    About 25 ms of CPU per column of a million floats: one sort gives order, distinct values, sketch and cells.
    """
    known = edges_from.columns if edges_from is not None else {}
    columns = {series.name: _profile_series(series, known.get(series.name)) for series in frame.get_columns()}
    return Profile(rows=frame.height, columns=columns)


def merge(a: Profile, b: Profile) -> Profile:
    """Return the profile of both tables one after the other; a column that one of them lacks is null there.

    Associative; equal to the profile of the concatenation on the same edges, up to rounding of mean and m2 and up to
    `top.error` of top values. Raises InvalidInput when a column has values on two different sets of edges.
    """
    columns = {
        name: merge_columns(
            name,
            a.columns[name] if name in a.columns else absent_column(b.columns[name], a.rows),
            b.columns[name] if name in b.columns else absent_column(a.columns[name], b.rows),
        )
        for name in [*a.columns, *(name for name in b.columns if name not in a.columns)]
    }
    return Profile(rows=a.rows + b.rows, columns=columns)


def count_window(baseline: Profile, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> dict[str, Counts]:
    """Return the cells of a small window of plain values for each of its columns that the baseline knows."""
    return {name: count_values(baseline.columns[name], columns[name]) for name in columns if name in baseline.columns}


def count_values(reference: ColumnProfile, values: Sequence[Any] | NDArray[Any]) -> Counts:
    """Return the cells of plain Python values or an array on the reference's edges; cells of windows add up.

    None, not-a-number and values of another type count as missing. Temporal columns take datetimes or ISO texts.

    >>> reference = profile_frame(pl.DataFrame({"sky": ["clear", "clear", "rain"]})).columns["sky"]
    >>> count_values(reference, ["rain", "snow", None]).tolist()
    [0, 1, 1, 1]
    """
    if reference.kind == "numeric":
        return count_numbers(reference.edges, values)
    if reference.kind == "temporal":
        return count_numbers(reference.edges, [_moment(value) for value in values])
    if reference.kind == "other":
        missing = sum(value is None for value in values)
        return np.array([len(values) - missing, missing], dtype=np.int64)
    table, missing = tally(values, TEXT_LENGTH)
    return count_categories(reference.categories, table, missing)


def logical_type(dtype: pl.DataType) -> Dtype:
    """Return the logical type of a Polars type: durations and times of day are "other", decimals are "float"."""
    if dtype.is_integer():
        return "int"
    if dtype.is_float() or dtype.is_decimal():
        return "float"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "string"
    if dtype == pl.Datetime:
        return "datetime"
    plain: dict[Any, Dtype] = {pl.Boolean: "boolean", pl.Date: "date", pl.Null: "null"}
    return plain.get(dtype, "other")


def _profile_series(series: pl.Series, reference: ColumnProfile | None) -> ColumnProfile:
    dtype = logical_type(series.dtype)
    kind = _KINDS[dtype]
    if reference is not None and reference.kind != kind:
        reference = None
    if kind == "other":
        nulls = series.null_count()
        present = len(series) - nulls
        return ColumnProfile(kind=kind, dtype=dtype, count=len(series), nulls=nulls, cells=[present, nulls])
    if kind in {"numeric", "temporal"}:
        return _profile_numbers(series, kind, dtype, reference)
    return _profile_categories(series, kind, dtype, reference)


def _profile_numbers(series: pl.Series, kind: Kind, dtype: Dtype, reference: ColumnProfile | None) -> ColumnProfile:
    present = series.drop_nulls() if series.null_count() else series
    if kind == "temporal":
        present = present.cast(pl.Datetime("us")).to_physical()
    ordered = np.sort(present.cast(pl.Float64).to_numpy() + 0.0)  # adding zero makes -0.0 the same value as 0.0
    # Sorting puts -inf first, then finite values, +inf and not-a-number, so three look-ups separate them.
    first = int(np.searchsorted(ordered, -np.inf, side="right"))
    infinite, nan = (int(np.searchsorted(ordered, bound, side="left")) for bound in (np.inf, np.nan))
    finite = ordered[first:infinite]
    starts = np.concatenate([[0], np.flatnonzero(finite[1:] != finite[:-1]) + 1]) if finite.size else np.empty(0, int)
    distinct, counts = finite[starts], np.diff(np.append(starts, finite.size))
    spread = sketch_of(distinct, counts)
    if reference is None:
        edges, atoms = reference_edges(finite, distinct)
    else:
        edges, atoms = np.asarray(reference.edges, dtype=np.float64), reference.atoms
    missing = len(series) - len(present) + ordered.size - nan
    mean, m2 = _moments(finite)
    return ColumnProfile(
        kind=kind,
        dtype=dtype,
        count=len(series),
        nulls=len(series) - len(present),
        nans=ordered.size - nan,
        infinities=first + nan - infinite,
        min=float(finite[0]) if finite.size else None,
        max=float(finite[-1]) if finite.size else None,
        mean=mean,
        m2=m2,
        spread=spread,
        top=_frequent_numbers(distinct, counts),
        registers=registers_of(hash_floats(distinct)) if distinct.size > MAX_CELLS else b"",
        edges=edges.tolist(),
        atoms=atoms,
        cells=count_ordered(edges, finite, first, nan - infinite, missing).tolist(),
    )


def _profile_categories(series: pl.Series, kind: Kind, dtype: Dtype, reference: ColumnProfile | None) -> ColumnProfile:
    table = _value_table(series)
    top = frequent_of(list(table), list(table.values()), MAX_CATEGORIES)
    if reference is None:
        ranked = sorted(table, key=lambda value: (-table[value], value))
        categories, partial = ranked[:MAX_CATEGORIES], len(ranked) > MAX_CATEGORIES
    else:
        categories, partial = reference.categories, reference.partial
    nulls = series.null_count()
    return ColumnProfile(
        kind=kind,
        dtype=dtype,
        count=len(series),
        nulls=nulls,
        top=top,
        registers=registers_of(hash_texts(table)) if top.error else b"",
        categories=categories,
        partial=partial,
        cells=count_categories(categories, table, nulls).tolist(),
    )


def _value_table(series: pl.Series) -> dict[str, int]:
    if series.dtype == pl.Boolean:
        yes = int(series.sum() or 0)
        no = len(series) - series.null_count() - yes
        return {category_key(value, TEXT_LENGTH): n for value, n in ((False, no), (True, yes)) if n}
    texts = series.drop_nulls().cast(pl.String)
    if len(texts) and int(texts.str.len_bytes().max() or 0) > TEXT_LENGTH:  # type: ignore[arg-type]
        texts = texts.str.head(TEXT_LENGTH)
    counted = texts.alias("value").value_counts(name="n")
    return dict(zip(counted["value"].to_list(), counted["n"].to_list(), strict=True))


def _frequent_numbers(distinct: Floats, counts: NDArray[Any]) -> Frequent:
    """Return the frequent values, looking only at those that a full sort of millions of counts could keep."""
    if distinct.size <= NUMERIC_TOP:
        return frequent_of(distinct.tolist(), counts.tolist(), NUMERIC_TOP)
    cut = int(np.partition(counts, -NUMERIC_TOP - 1)[-NUMERIC_TOP - 1])
    kept = np.flatnonzero(counts > cut)
    return frequent_of(distinct[kept].tolist(), (counts[kept] - cut).tolist(), NUMERIC_TOP, error=cut)


def _moments(finite: Floats) -> tuple[float | None, float]:
    """Return mean and sum of squared distances, scaled first where squares or sums would overflow."""
    if finite.size == 0:
        return None, 0.0
    scale = max(abs(float(finite[0])), abs(float(finite[-1])))
    if scale < 1e150:
        mean = float(finite.mean())
        distance = finite - mean
        return mean, float(np.dot(distance, distance))
    scaled = finite / scale
    mean = float(scaled.mean())
    m2 = float(np.dot(scaled - mean, scaled - mean))
    root = math.sqrt(m2) * scale
    return mean * scale, root * root if root < 1e154 else sys.float_info.max


def _moment(value: object) -> float:
    """Return a moment in microseconds since 1970; a naive one is taken as UTC, what is no moment as not-a-number."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return float("nan")
    if isinstance(value, datetime):
        return float(micros(value if value.tzinfo else value.replace(tzinfo=UTC)))
    if isinstance(value, date):
        return float(micros(datetime(value.year, value.month, value.day, tzinfo=UTC)))
    return float(value) if isinstance(value, (int, float)) else float("nan")
