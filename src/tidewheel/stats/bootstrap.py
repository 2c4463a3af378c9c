"""Paired Poisson bootstrap: how sure is a difference between two predictors on the same rows.

Every row draws a weight from Poisson(1) in each replicate (Chamandy, Muralidharan, Najmi and Naidu, "Estimating
uncertainty for massive data streams", Google, 2012), and both predictors are computed again under the same weights, so
that what makes a row hard for both cancels out. Equal rows collapse into one cell whose weight is Poisson(count): a
thousand rows of a yes/no metric become a handful of cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from tidewheel.errors import InvalidInput

Floats: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""Weights [replicates, cells] to values [replicates]; not a number where a replicate leaves it undefined."""
WeightedMetric: TypeAlias = Callable[[Floats, Floats], Floats]
"""Columns [cells, k] and weights [replicates, cells] to values [replicates]."""

CELLS_AT_ONCE = 1 << 21  # 16 MB of weights: bounds memory whatever the number of rows
CELL_BUDGET = 400_000_000  # about 2 s of one core; more rows get fewer replicates, their interval is narrow anyway
MOST_REPLICATES = 2_000
FEWEST_REPLICATES = 400
USABLE_SHARE = 0.9  # fewer defined replicates than this say nothing about the tails


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapInterval:
    """An interval for a statistic; infinite bounds where the rows do not allow one."""

    estimate: float  # the statistic with every row counted once
    low: float  # lower bound, -inf where too many replicates were undefined
    high: float  # upper bound, inf likewise
    level: float  # two-sided coverage that was asked for, in (0, 1)
    positive_share: float  # share of replicates above zero, ties counted half
    replicates: int  # replicates in which the statistic was defined
    undefined: int  # replicates in which it was not


def paired_difference(
    metric: WeightedMetric, first: Floats, second: Floats, *, level: float = 0.95, seed: int = 0
) -> BootstrapInterval:
    """Return the interval of metric(first) - metric(second) for two predictors described row by row.

    `first` and `second` are [rows, k]: what the metric needs of each row under either predictor, same row order.
    Raises InvalidInput when they differ in length, are empty or hold values that are not finite.

    >>> losses = np.array([[0.0], [1.0], [0.0], [0.0]]), np.array([[1.0], [1.0], [1.0], [0.0]])
    >>> mean = lambda columns, weights: weights @ columns[:, 0] / weights.sum(axis=1)
    >>> paired_difference(mean, *losses).estimate
    -0.5
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise InvalidInput(
            f"Two predictors were described with shapes {first.shape} and {second.shape}.",
            "Give one line of columns per row to both, on the same rows in the same order.",
        )
    width = first.shape[1]
    cells, counts = collapse(np.hstack([first, second]))

    def difference(weights: Floats) -> Floats:
        return metric(cells[:, :width], weights) - metric(cells[:, width:], weights)

    return bootstrap_interval(difference, counts, level=level, seed=seed)


def collapse(rows: Floats) -> tuple[Floats, Floats]:
    """Return distinct rows and how often each occurs; rows that hardly repeat are given back as they are.

    Raises InvalidInput on a value that is not finite.
    """
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).any(axis=1).sum())
        raise InvalidInput(f"{bad} of {len(rows)} rows hold values that are not finite.", "Drop or mend those rows.")
    sample = rows[:2_000]
    if len(np.unique(sample, axis=0)) > len(sample) // 2:
        return rows, np.ones(len(rows))
    cells, counts = np.unique(rows, axis=0, return_counts=True)
    return cells, counts.astype(np.float64)


def bootstrap_interval(
    statistic: Statistic, counts: Floats, *, level: float = 0.95, seed: int = 0
) -> BootstrapInterval:
    """Return the Poisson bootstrap interval of a statistic of weighted cells.

    `counts` [cells] says how many rows each cell stands for. The bounds are percentiles of the replicates, expanded
    for few rows (Hesterberg, "What teachers should know about the bootstrap", 2015). BCa was tried and dropped: paired
    differences are nearly symmetric, and on 50 rows it covered less (accuracy 0.87 against 0.91 at 0.95 [measured]).
    Same seed, same interval.
    Raises InvalidInput on no rows or a level outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise InvalidInput(f"A confidence level of {level} was asked for.", "Give a level between 0 and 1, as 0.95.")
    if counts.ndim != 1 or not len(counts) or counts.sum() < 1:
        raise InvalidInput("There are no rows to compare.", "Give at least one row.")
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(statistic(counts[np.newaxis, :])[0])
        drawn = _replicates(statistic, counts, seed)
    values = np.sort(drawn[np.isfinite(drawn)])
    undefined = len(drawn) - len(values)
    low, high = -np.inf, np.inf
    if np.isfinite(estimate) and len(values) >= USABLE_SHARE * len(drawn):
        tail = _expanded_tail(level, counts.sum())
        low, high = (float(bound) for bound in np.quantile(values, [tail, 1 - tail]))
    positive = (np.sum(values > 0) + 0.5 * np.sum(values == 0)) / len(values) if len(values) else 0.5
    return BootstrapInterval(
        estimate=estimate,
        low=low,
        high=high,
        level=level,
        positive_share=float(positive),
        replicates=len(values),
        undefined=undefined,
    )


def poisson_weights(counts: Floats, replicates: int, seed: int) -> Iterator[Floats]:
    """Yield weights [some, cells], `replicates` lines in all, never more than CELLS_AT_ONCE numbers at a time."""
    random = np.random.default_rng(seed)
    rows_at_once = max(1, CELLS_AT_ONCE // len(counts))
    table = _unit_poisson_table() if np.all(counts == 1.0) else None
    done = 0
    while done < replicates:
        size = (min(rows_at_once, replicates - done), len(counts))
        if table is None:
            yield random.poisson(counts, size=size).astype(np.float64)
        else:
            yield table[random.integers(0, 1 << 16, size=size, dtype=np.uint16)]
        done += size[0]


def _unit_poisson_table() -> Floats:
    # 65,536 equally likely answers of Poisson(1): its mean and variance are right to 2e-5, at a tenth of the time
    # of numpy's sampler [measured].
    shares = np.cumsum(np.exp(-1.0) / np.cumprod(np.concatenate([[1.0], np.arange(1.0, 10.0)])))
    return np.searchsorted(np.round(shares * (1 << 16)), np.arange(1 << 16), side="right").astype(np.float64)


def _replicates(statistic: Statistic, counts: Floats, seed: int) -> Floats:
    wanted = int(np.clip(CELL_BUDGET // len(counts), FEWEST_REPLICATES, MOST_REPLICATES))
    return np.concatenate([statistic(weights) for weights in poisson_weights(counts, wanted, seed)])


def _expanded_tail(level: float, rows: float) -> float:
    # The percentile interval is too narrow by sqrt((n - 1) / n), and normal where Student's t is due.
    if rows < 2:
        return 0.0
    reach = stdtrit(rows - 1, (1 + level) / 2) * np.sqrt(rows / (rows - 1))
    return float(ndtr(-reach))
