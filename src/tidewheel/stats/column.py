"""The profile of one column: counts, moments, quantiles, frequent values and cells on fixed edges, mergeable."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidewheel.errors import InvalidInput
from tidewheel.stats.distinct import estimate, hash_floats, hash_texts, merge_registers, registers_of
from tidewheel.stats.frequent import Frequent, merge_frequent
from tidewheel.stats.quantile_sketch import QuantileSketch, exact_values, merge_sketches, quantile

MAX_BINS = 32
MAX_CATEGORIES = 256
NUMERIC_TOP = 32
TEXT_LENGTH = 200

Kind = Literal["numeric", "categorical", "boolean", "temporal", "other"]
Dtype = Literal["int", "float", "string", "boolean", "datetime", "date", "null", "other"]
Counts = NDArray[np.int64]

SUMMARY_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column; temporal ones are numeric in microseconds since 1970 UTC, texts count by their first 200 characters.

    Cells in order: numeric and temporal: under the lowest edge, each bin, over the highest edge, missing; categorical
    and boolean: each category, any other value, missing; other kinds: present, missing. They add up to `count`.
    """

    kind: Kind  # how the column is counted
    dtype: Dtype  # the type of its values
    count: int  # rows, missing ones included
    nulls: int = 0  # rows without a value
    nans: int = 0  # rows holding not-a-number
    infinities: int = 0  # rows holding plus or minus infinity
    min: float | None = None  # smallest finite value
    max: float | None = None  # largest finite value
    mean: float | None = None  # of the finite values
    m2: float = 0.0  # sum of squared distances of the finite values from their mean
    spread: QuantileSketch = QuantileSketch()  # distribution of the finite values
    top: Frequent = Frequent()  # most frequent values with lower bounds of their counts
    registers: bytes = b""  # HyperLogLog registers, kept once there are too many distinct values to list
    edges: list[float] = []  # ascending bin edges of the reference; bins hold [low, high), the last one both ends
    atoms: bool = False  # every bin was cut around one single value of the reference
    categories: list[str] = []  # values of the reference, most frequent first
    partial: bool = False  # the reference held more values than `categories` lists, so "other" need not be new
    cells: list[int] = []  # counts on the edges or categories, as described above

    @property
    def missing(self) -> int:
        """Rows without a usable value: null or not-a-number."""
        return self.nulls + self.nans

    @property
    def variance(self) -> float | None:
        """Sample variance of the finite values; None below two of them."""
        values = self.count - self.missing - self.infinities
        return self.m2 / (values - 1) if values > 1 and self.mean is not None else None

    @property
    def distinct(self) -> int:
        """Number of distinct values: exact up to 256 of them, within about 3 % beyond."""
        if self.registers:
            return min(estimate(self.registers), self.count - self.missing)
        return len(self.spread.keys) if self.kind in {"numeric", "temporal"} else len(self.top.values)

    @property
    def values_known(self) -> bool:
        """Whether every distinct value of a categorical or boolean column is listed in `top`."""
        return self.kind in {"categorical", "boolean"} and self.top.error == 0

    def quantile(self, q: float) -> float | None:
        """Return the value below which a share q in [0, 1] of the finite values lies; None without values."""
        value = quantile(self.spread, q)
        if value is None or self.min is None or self.max is None:
            return None
        return min(max(value, self.min), self.max)


def merge_columns(name: str, a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    """Return the profile of one column over two tables; see `merge`."""
    shape = _shared_shape(name, a, b)
    mean, m2 = _merged_moments(a, b)
    limit = NUMERIC_TOP if shape.kind in {"numeric", "temporal"} else MAX_CATEGORIES
    spread = merge_sketches(a.spread, b.spread)
    top = merge_frequent(a.top, b.top, limit)
    overflow = spread.shift > 0 if shape.kind in {"numeric", "temporal"} else top.error > 0
    return ColumnProfile(
        kind=shape.kind,
        dtype=_merged_dtype(a, b),
        count=a.count + b.count,
        nulls=a.nulls + b.nulls,
        nans=a.nans + b.nans,
        infinities=a.infinities + b.infinities,
        min=_pick(min, a.min, b.min),
        max=_pick(max, a.max, b.max),
        mean=mean,
        m2=m2,
        spread=spread,
        top=top,
        registers=merge_registers(_registers(a), _registers(b)) if overflow else b"",
        edges=shape.edges,
        atoms=shape.atoms,
        categories=shape.categories,
        partial=shape.partial,
        cells=_merged_cells(shape, a, b),
    )


def comparison_cells(reference: ColumnProfile, cells: Counts | list[int] | None = None) -> Counts:
    """Return cells ready for a divergence: values beyond the edges join the outer bins where bins are ranges.

    Growth beyond the range of the reference then counts as mass of the outer bin and not as an event of probability
    zero, which would let a handful of rows dominate the divergence. Where each bin is one single value (`atoms`),
    other values keep cells of their own. Without `cells` the reference's own counts are returned.
    """
    counts = np.array(reference.cells if cells is None else cells, dtype=np.int64)
    if reference.atoms or len(reference.edges) < 3:
        return counts
    counts[1] += counts[0]
    counts[-3] += counts[-2]
    return np.delete(counts, [0, len(counts) - 2])


def ordered_cells(reference: ColumnProfile, cells: Counts | list[int] | None = None) -> Counts:
    """Return the cells that lie on a scale, lowest first, without the missing ones (for Kolmogorov-Smirnov)."""
    return np.array(reference.cells if cells is None else cells, dtype=np.int64)[:-1]


def _same_shape(a: ColumnProfile, b: ColumnProfile) -> bool:
    return (a.kind, a.edges, a.atoms, a.categories, a.partial) == (b.kind, b.edges, b.atoms, b.categories, b.partial)


def _shared_shape(name: str, a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    """Return the side whose edges the merged cells stand on; a side without values takes the other's."""
    if _same_shape(a, b) or b.missing == b.count:
        if a.missing == a.count and b.dtype != "null" and a.dtype == "null":
            return b
        return a
    if a.missing == a.count:
        return b
    raise InvalidInput(
        f"Column {name!r} was profiled on two different sets of edges ({a.kind} and {b.kind}); they do not add up.",
        "Profile the second table with profile_frame(frame, edges_from=first).",
    )


def _merged_cells(shape: ColumnProfile, a: ColumnProfile, b: ColumnProfile) -> list[int]:
    if len(a.cells) == len(b.cells):
        return [x + y for x, y in zip(a.cells, b.cells, strict=True)]
    other = b if shape is a else a  # holds no values: all of it is missing
    return [*shape.cells[:-1], shape.cells[-1] + other.count]


def _merged_dtype(a: ColumnProfile, b: ColumnProfile) -> Dtype:
    if a.dtype == "null":
        return b.dtype
    return "float" if {a.dtype, b.dtype} == {"int", "float"} else a.dtype


def _merged_moments(a: ColumnProfile, b: ColumnProfile) -> tuple[float | None, float]:
    """Combine mean and m2 (Chan, Golub & LeVeque 1979), saturating instead of overflowing."""
    if a.mean is None or b.mean is None:
        present = b if a.mean is None else a
        return present.mean, present.m2
    n_a = a.count - a.missing - a.infinities
    n_b = b.count - b.missing - b.infinities
    share = n_b / (n_a + n_b)
    mean = a.mean * (1.0 - share) + b.mean * share
    step = b.mean - a.mean
    m2 = a.m2 + b.m2 + step * step * n_a * share
    return mean, m2 if math.isfinite(m2) else sys.float_info.max


def _pick(choose: Callable[[float, float], float], a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return choose(a, b)


def _registers(column: ColumnProfile) -> bytes:
    """Return the registers of a column, rebuilt from its values while those are all listed."""
    if column.registers:
        return column.registers
    if column.kind in {"numeric", "temporal"}:
        values = exact_values(column.spread)
        return registers_of(hash_floats(values)) if values is not None else b""
    return registers_of(hash_texts(str(value) for value in column.top.values))


def absent_column(like: ColumnProfile, rows: int) -> ColumnProfile:
    """Return the profile of a column that a table of so many rows lacks: null throughout, on the same edges."""
    cells = [0] * (len(like.cells) - 1) + [rows]
    return ColumnProfile(
        kind=like.kind, dtype=like.dtype, count=rows, nulls=rows, edges=like.edges, atoms=like.atoms,
        categories=like.categories, partial=like.partial, cells=cells,
    )  # fmt: skip
