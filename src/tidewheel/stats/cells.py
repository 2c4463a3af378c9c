"""Counting values into cells: bin edges from a reference, and counts of sorted columns or small windows on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_BINS = 32

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Edges(NamedTuple):
    """Bin edges cut from a reference."""

    edges: Floats  # ascending; n + 1 edges make n bins, [low, high) but for the last, which holds both ends
    atoms: bool  # every bin was cut around one single value


def reference_edges(ordered: Floats, distinct: Floats) -> Edges:
    """Return edges for ascending finite values: one bin per value up to 32 of them, otherwise equal shares.

    Fixed from the reference, never from what it is compared with: one outlier in a window then cannot stretch the bins.
    """
    if distinct.size == 0:
        return Edges(np.empty(0), atoms=False)
    if distinct.size <= MAX_BINS:
        middles = distinct[:-1] / 2 + distinct[1:] / 2
        return Edges(np.concatenate([distinct[:1], middles, distinct[-1:]]), atoms=True)
    picks = np.rint(np.linspace(0, ordered.size - 1, MAX_BINS + 1)).astype(np.intp)
    return Edges(np.unique(ordered[picks]), atoms=False)


def count_ordered(edges: Floats, ordered: Floats, below: int, above: int, missing: int) -> Counts:
    """Return cells of ascending finite values plus infinite and missing ones already counted."""
    if edges.size == 0:
        return np.array([below, ordered.size + above, missing], dtype=np.int64)
    starts = np.searchsorted(ordered, edges[:-1], side="left")
    end = int(np.searchsorted(ordered, edges[-1], side="right"))
    inner = np.diff(np.append(starts, end))
    return np.concatenate([[starts[0] + below], inner, [ordered.size - end + above, missing]]).astype(np.int64)


def count_numbers(edges: Sequence[float] | Floats, values: Sequence[Any] | NDArray[Any]) -> Counts:
    """Return cells of a small window of numbers in any order; what is no number counts as missing.

    >>> count_numbers([0.0, 1.0, 2.0], [0.5, 2.0, 7.0, None]).tolist()
    [0, 1, 1, 1, 1]
    """
    numbers = as_floats(values)
    bounds = np.asarray(edges, dtype=np.float64)
    bins = max(len(bounds) - 1, 0)
    missing = np.isnan(numbers)
    present = numbers[~missing]
    if len(bounds) == 0:
        cells = np.where(present == -np.inf, 0, 1)
    else:
        cells = np.searchsorted(bounds, present, side="right")
        cells[present == bounds[-1]] = bins
        cells[present > bounds[-1]] = bins + 1
    counts = np.bincount(cells, minlength=bins + 2)
    return np.append(counts, int(missing.sum())).astype(np.int64)


def count_categories(categories: Sequence[str], values: Mapping[str, int], missing: int) -> Counts:
    """Return cells of a table of values and their counts: each category, all others, missing."""
    listed = [values.get(category, 0) for category in categories]
    return np.array([*listed, sum(values.values()) - sum(listed), missing], dtype=np.int64)


def tally(values: Sequence[Any] | NDArray[Any], length: int) -> tuple[dict[str, int], int]:
    """Return how often each text occurs in a small window, cut to `length` characters, and how many are missing."""
    counts = Counter(values.tolist() if isinstance(values, np.ndarray) else values)
    missing = counts.pop(None, 0)
    table: dict[str, int] = {}
    for value, count in counts.items():
        if isinstance(value, float) and value != value:  # noqa: PLR0124 - the test for not-a-number
            missing += count
            continue
        key = category_key(value, length)
        table[key] = table.get(key, 0) + count
    return table, missing


def category_key(value: object, length: int) -> str:
    """Return the text under which a categorical value is counted."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    return str(value)[:length]


def as_floats(values: Sequence[Any] | NDArray[Any]) -> Floats:
    """Return numbers as float64, with not-a-number for whatever is none."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([_as_float(value) for value in values], dtype=np.float64)


def _as_float(value: object) -> float:
    return float(value) if isinstance(value, (int, float, np.number)) else float("nan")
