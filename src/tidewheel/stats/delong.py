"""DeLong's interval for the difference of two areas under the ROC curve on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from tidewheel.errors import InvalidInput

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaDifference:
    """Two areas under the ROC curve and a normal interval for their difference."""

    first: float  # area of the first predictor, 0 to 1
    second: float  # area of the second
    estimate: float  # first - second
    error: float  # standard error of the difference; 0 where both rank every pair alike
    low: float  # lower bound of the difference
    high: float  # upper bound
    level: float  # two-sided coverage that was asked for, in (0, 1)
    positive_share: float  # normal probability that the difference is above zero


def delong_difference(
    positive: NDArray[np.bool_], first: Floats, second: Floats, *, level: float = 0.95
) -> AreaDifference:
    """Return both areas and the interval of first - second.

    `positive` [rows] marks the positive class, `first` and `second` [rows] are the scores of the two predictors.
    DeLong, DeLong and Clarke-Pearson (1988), by the mid-ranks of Sun and Xu (2014): O(n log n).
    Raises InvalidInput when lengths differ or fewer than two rows of either class are there.

    >>> truth = np.array([True, True, False, False])
    >>> delong_difference(truth, np.array([0.9, 0.8, 0.1, 0.2]), np.array([0.9, 0.1, 0.2, 0.3])).estimate
    0.5
    """
    if not len(positive) == len(first) == len(second):
        raise InvalidInput(
            f"{len(positive)} labels came with {len(first)} and {len(second)} scores.",
            "Give one score of either predictor per label.",
        )
    if not 0.0 < level < 1.0:
        raise InvalidInput(f"A confidence level of {level} was asked for.", "Give a level between 0 and 1, as 0.95.")
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if ones < 2 or zeros < 2:
        raise InvalidInput(
            f"{ones} positive and {zeros} negative rows do not make an interval for the area under the curve.",
            "Give at least two rows of either class.",
        )
    above_first, below_first = _placements(positive, first)
    above_second, below_second = _placements(positive, second)
    variance = (above_first - above_second).var(ddof=1) / ones + (below_first - below_second).var(ddof=1) / zeros
    error = float(np.sqrt(variance))
    area_first, area_second = float(above_first.mean()), float(above_second.mean())
    estimate = area_first - area_second
    reach = float(ndtri((1 + level) / 2)) * error
    return AreaDifference(
        first=area_first,
        second=area_second,
        estimate=estimate,
        error=error,
        low=estimate - reach,
        high=estimate + reach,
        level=level,
        positive_share=float(ndtr(estimate / error)) if error else 0.5 + 0.5 * float(np.sign(estimate)),
    )


def _placements(positive: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    # Share of the other class that each row outranks (positives) or is outranked by (negatives); ties count half.
    ranks = rankdata(scores)
    ones, zeros = ranks[positive], ranks[~positive]
    above = (ones - rankdata(scores[positive])) / len(zeros)
    below = 1.0 - (zeros - rankdata(scores[~positive])) / len(ones)
    return above, below
