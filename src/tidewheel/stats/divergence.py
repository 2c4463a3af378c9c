"""Distances between two distributions given as counts on the same cells, and what chance alone makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidewheel.errors import InvalidInput

CountsLike = Sequence[int] | Sequence[float] | NDArray[Any]


def psi(reference: CountsLike, current: CountsLike, *, prior: float = 0.5) -> float:
    """Return the population stability index: sum of (q - p) ln(q / p) over cells, at least 0.

    `prior` is added to each cell that either side occupies, so that an empty cell gives no infinity; cells empty on
    both sides are left out. Without drift its law is about (1/n + 1/m) chi-square: see `psi_null_quantile`.
    Either side empty: 0. Raises InvalidInput for different numbers of cells. Source: Yurdakul (2018).

    >>> round(psi([50, 50], [90, 10]), 2)
    0.85
    """
    p, q = _shares(reference, current, prior)
    return float(np.sum((q - p) * np.log(q / p))) if p.size else 0.0


def js(reference: CountsLike, current: CountsLike) -> float:
    """Return the Jensen-Shannon distance (Lin 1991; base 2, square root), from 0 for equal to 1 for disjoint.

    Either side empty: 0. Raises InvalidInput for different numbers of cells.

    >>> js([10, 0], [0, 10])
    1.0
    """
    p, q = _shares(reference, current, 0.0)
    if not p.size:
        return 0.0
    middle = (p + q) / 2.0
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2.0
    return math.sqrt(min(max(divergence, 0.0), 1.0))


def ks_from_counts(reference: CountsLike, current: CountsLike) -> float:
    """Return the largest gap between the two distribution functions at the cell borders (cells in ascending order).

    A lower bound of the two-sample Kolmogorov-Smirnov statistic, exact where the bins are single values.
    Either side empty: 0. Raises InvalidInput for different numbers of cells.

    >>> ks_from_counts([5, 5, 0], [0, 5, 5])
    0.5
    """
    a, b = _pair(reference, current)
    if a.sum() == 0 or b.sum() == 0:
        return 0.0
    return float(np.max(np.abs(np.cumsum(a) / a.sum() - np.cumsum(b) / b.sum())))


def ks(reference: CountsLike, current: CountsLike) -> float:
    """Return the two-sample Kolmogorov-Smirnov statistic of raw finite values; 0 when either side has none."""
    a = np.sort(np.asarray(reference, dtype=np.float64))
    b = np.sort(np.asarray(current, dtype=np.float64))
    if a.size == 0 or b.size == 0:
        return 0.0
    points = np.concatenate([a, b])
    gaps = np.searchsorted(a, points, side="right") / a.size - np.searchsorted(b, points, side="right") / b.size
    return float(np.max(np.abs(gaps)))


def psi_null_quantile(n_ref: float, n_cur: float, bins: int, q: float) -> float:
    """Return the PSI below which a share q of windows lies when nothing has changed.

    (1/n_ref + 1/n_cur) times the chi-square quantile with bins - 1 degrees of freedom (Yurdakul 2018); good from about
    five expected values per cell on. `bins` counts the cells that either side occupies. Raises InvalidInput for
    counts below 1 or q outside (0, 1).

    >>> round(psi_null_quantile(100_000, 100, 10, 0.95), 3)
    0.169
    """
    from scipy.special import chdtri

    _check_law(n_ref, n_cur, q)
    if bins < 2:
        return 0.0
    return float((1.0 / n_ref + 1.0 / n_cur) * chdtri(bins - 1, 1.0 - q))


def ks_null_quantile(n_ref: float, n_cur: float, q: float) -> float:
    """Return the KS statistic below which a share q of windows lies when nothing has changed (Smirnov 1939).

    The limit law; on binned counts the statistic is smaller, so the band is then on the safe side.

    >>> round(ks_null_quantile(100_000, 1_000, 0.95), 3)
    0.043
    """
    from scipy.special import kolmogi

    _check_law(n_ref, n_cur, q)
    return min(float(kolmogi(1.0 - q) * math.sqrt(1.0 / n_ref + 1.0 / n_cur)), 1.0)


def occupied_cells(reference: CountsLike, current: CountsLike) -> int:
    """Return how many cells hold a value on either side: the `bins` of `psi_null_quantile`."""
    a, b = _pair(reference, current)
    return int(np.count_nonzero(a + b))


def _pair(reference: CountsLike, current: CountsLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise InvalidInput(
            f"Counts on {a.size} and on {b.size} cells cannot be compared.",
            "Count both on the same edges: profile_frame(frame, edges_from=baseline) or count_values(column, values).",
        )
    return a, b


def _shares(
    reference: CountsLike, current: CountsLike, prior: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _pair(reference, current)
    if a.sum() == 0 or b.sum() == 0:
        return np.empty(0), np.empty(0)
    occupied = (a + b) > 0
    a, b = a[occupied] + prior, b[occupied] + prior
    return a / a.sum(), b / b.sum()


def _relative_entropy(p: NDArray[np.float64], middle: NDArray[np.float64]) -> float:
    positive = p > 0
    return float(np.sum(p[positive] * np.log2(p[positive] / middle[positive])))


def _check_law(n_ref: float, n_cur: float, q: float) -> None:
    if n_ref < 1 or n_cur < 1 or not 0.0 < q < 1.0:
        raise InvalidInput(
            f"No null quantile for {n_ref} and {n_cur} values at q={q}.",
            "Give at least one value on each side and q between 0 and 1, for example 0.999.",
        )
