"""A quantile sketch that merges exactly: the histogram of the leading bits of ordered floats.

A float64 maps to a 64-bit integer of the same order (its bits, the negative half reversed). Dropping the low
`shift` bits groups neighbouring floats; the sketch takes the smallest shift at which at most `MAX_CELLS` groups
are occupied. That shift depends on the set of values alone and can only grow when values are added, so
merging sketches gives bit for bit the sketch of the concatenated values: merge is associative and commutative,
which rank sketches with random compaction (KLL, Karnin, Lang & Liberty 2016) are not. Grouping is relative near
zero (as in DDSketch, Masson, Rim & Lee 2019) and absolute between values of one exponent, so neither heavy tails
nor a large offset spoil it; up to `MAX_CELLS` distinct values are kept exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_CELLS = 256

_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)
_SIGN = np.int64(63)


class QuantileSketch(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of groups of neighbouring floats, mergeable without loss.

    >>> sketch = sketch_of(np.array([1.0, 2.0, 4.0]), np.array([1, 2, 1]))
    >>> quantile(sketch, 0.5)
    2.0
    """

    shift: int = 0  # low bits dropped from the order-preserving integer; 0 means every value is kept exactly
    keys: list[int] = []  # occupied groups in ascending order: the integer after the shift
    counts: list[int] = []  # values in each group, at least 1


def sketch_of(distinct: NDArray[np.float64], counts: NDArray[Any]) -> QuantileSketch:
    """Return the sketch of ascending distinct finite values and how often each occurs."""
    if distinct.size == 0:
        return QuantileSketch()
    return _coarsened(_ordered_integers(distinct), counts.astype(np.int64), 0)


def merge_sketches(a: QuantileSketch, b: QuantileSketch) -> QuantileSketch:
    """Return the sketch of the values of both; exactly what `sketch_of` gives for their concatenation."""
    if not a.keys or not b.keys:
        return a if a.keys else b
    shift = max(a.shift, b.shift)
    keys = np.concatenate([_keys(a) >> np.int64(shift - a.shift), _keys(b) >> np.int64(shift - b.shift)])
    counts = np.concatenate([np.asarray(a.counts, dtype=np.int64), np.asarray(b.counts, dtype=np.int64)])
    order = np.argsort(keys, kind="stable")
    return _coarsened(keys[order], counts[order], shift)


def quantile(sketch: QuantileSketch, q: float) -> float | None:
    """Return the value below which a share q in [0, 1] of the values lies, or None when the sketch is empty.

    Exact (the inverted distribution function) up to `MAX_CELLS` distinct values, interpolated inside a group beyond.
    """
    if not sketch.keys:
        return None
    counts = np.asarray(sketch.counts, dtype=np.int64)
    ends = np.cumsum(counts)
    rank = min(max(q, 0.0), 1.0) * float(ends[-1])
    cell = min(int(np.searchsorted(ends, rank, side="left")), len(ends) - 1)
    low, high = group_bounds(sketch, cell)
    if low == 0.0:  # zero shares its group with numbers too small to matter; show it as zero
        return 0.0
    inside = (rank - float(ends[cell] - counts[cell])) / float(counts[cell])
    return low + (high - low) * min(max(inside, 0.0), 1.0)


def quantiles(sketch: QuantileSketch, shares: Sequence[float]) -> list[float | None]:
    """Return `quantile` for each share."""
    return [quantile(sketch, share) for share in shares]


def group_bounds(sketch: QuantileSketch, cell: int) -> tuple[float, float]:
    """Return the smallest and the largest float of an occupied group."""
    first = sketch.keys[cell] << sketch.shift
    last = first + (1 << sketch.shift) - 1
    low, high = _floats(np.array([first, last], dtype=np.int64))
    limit = float(np.finfo(np.float64).max)
    return max(float(low), -limit), min(float(high), limit)


def histogram(sketch: QuantileSketch, edges: Sequence[float]) -> list[float]:
    """Return how many values lie in each bin between ascending edges, groups that reach over an edge divided evenly."""
    if not sketch.keys:
        return [0.0] * (len(edges) - 1)
    low, high = np.array([group_bounds(sketch, cell) for cell in range(len(sketch.keys))]).T
    counts = np.asarray(sketch.counts, dtype=np.float64)
    wide = high - low > 1e-300  # others are single values, or zero with numbers too small to matter
    width = np.where(wide, high - low, 1.0)
    below = [counts @ np.where(wide, np.clip((edge - low) / width, 0.0, 1.0), low < edge) for edge in edges]
    below[-1] += counts[(low == edges[-1]) & ~wide].sum()  # the last bin holds its upper edge
    return [float(count) for count in np.diff(below)]


def exact_values(sketch: QuantileSketch) -> NDArray[np.float64] | None:
    """Return every distinct value in ascending order while the sketch still holds them all, otherwise None."""
    return _floats(_keys(sketch)) if sketch.shift == 0 else None


def _keys(sketch: QuantileSketch) -> NDArray[np.int64]:
    return np.asarray(sketch.keys, dtype=np.int64)


def _ordered_integers(values: NDArray[np.float64]) -> NDArray[np.int64]:
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    return bits ^ ((bits >> _SIGN) & _MAGNITUDE)


def _floats(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    return (keys ^ ((keys >> _SIGN) & _MAGNITUDE)).view(np.float64)


def _coarsened(keys: NDArray[np.int64], counts: NDArray[np.int64], shift: int) -> QuantileSketch:
    """Drop just so many further bits of ascending keys that at most MAX_CELLS groups stay occupied."""
    drop = _bits_to_drop(keys)
    keys = keys >> np.int64(drop)
    starts = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
    totals = np.add.reduceat(counts, starts)
    return QuantileSketch(shift=shift + drop, keys=keys[starts].tolist(), counts=totals.tolist())


def _bits_to_drop(keys: NDArray[np.int64]) -> int:
    if keys.size <= MAX_CELLS:
        return 0
    differing = (keys[1:] ^ keys[:-1]).view(np.uint64)
    # Clearing the bit below the highest keeps the conversion to float from rounding up to the next power of two.
    lengths = np.frexp((differing & ~(differing >> np.uint64(1))).astype(np.float64))[1]
    at_least = np.bincount(lengths, minlength=66)[::-1].cumsum()[::-1]  # [i]: neighbours whose difference has >= i bits
    occupied = 1 + at_least[1:]  # [s]: groups left after dropping s bits
    return int(np.argmax(occupied <= MAX_CELLS))
