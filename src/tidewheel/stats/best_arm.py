"""The chance that each of several arms is the best one, given rewards: the shares of Thompson sampling.

Thompson, W. R. (1933): On the likelihood that one unknown probability exceeds another. Biometrika 25.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NODES = 4_000  # points of the integral over one arm's distribution

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What rewards have shown of one arm."""

    weight: float = 0.0  # how many there were, each counted by its weight
    total: float = 0.0  # weighted sum of rewards
    squares: float = 0.0  # weighted sum of squared rewards


def best_of_bernoulli(arms: Sequence[Seen]) -> Array:
    """Return the chance [arms] that each arm has the highest rate of ones, from a Beta(1, 1) prior.

    >>> best_of_bernoulli([Seen(), Seen()]).round(3).tolist()
    [0.5, 0.5]
    """
    from scipy.stats import beta

    ones = np.array([arm.total for arm in arms])
    zeros = np.maximum(np.array([arm.weight for arm in arms]) - ones, 0.0)
    return _best([beta(1.0 + one, 1.0 + zero) for one, zero in zip(ones, zeros, strict=True)])


def best_of_normal(arms: Sequence[Seen]) -> Array:
    """Return the chance [arms] that each arm has the highest mean reward, its variance unknown.

    The prior is normal-inverse-gamma with the weight of one reward, at the mean and variance of all arms together
    (Murphy, K. P., 2007: Conjugate Bayesian analysis of the Gaussian distribution), so that the scale of the rewards
    does not matter.

    >>> int(best_of_normal([Seen(weight=50, total=50, squares=60), Seen(weight=50, total=60, squares=82)]).argmax())
    1
    """
    from scipy.stats import t

    weight = sum(arm.weight for arm in arms)
    if not weight:
        return np.full(len(arms), 1 / len(arms))
    centre = sum(arm.total for arm in arms) / weight
    spread = max(sum(arm.squares for arm in arms) / weight - centre**2, 1e-12 * (1 + centre**2))
    beliefs = []
    for arm in arms:
        mean = (centre + arm.total) / (1 + arm.weight)
        own = arm.total / arm.weight if arm.weight else centre
        within = max(arm.squares - arm.weight * own**2, 0.0)
        between = arm.weight * (own - centre) ** 2 / (1 + arm.weight)
        shape, rate = 1 + arm.weight / 2, spread + (within + between) / 2
        beliefs.append(t(2 * shape, loc=mean, scale=np.sqrt(rate / (shape * (1 + arm.weight)))))
    return _best(beliefs)


def with_floor(chances: Array, floor: float) -> Array:
    """Return chances [arms] of which each is at least the floor and all add up to 1.

    >>> with_floor(np.array([0.0, 1.0]), 0.02).tolist()
    [0.02, 0.98]
    """
    lifted: Array = floor + (1 - len(chances) * floor) * chances / chances.sum()
    return lifted


def _best(beliefs: Sequence[Any]) -> Array:
    """Return the integral of each arm's density times the others' distribution functions, by its quantiles."""
    middle = (np.arange(NODES) + 0.5) / NODES
    chances = np.empty(len(beliefs))
    for place, belief in enumerate(beliefs):
        values = belief.ppf(middle)
        others = [each.cdf(values) for other, each in enumerate(beliefs) if other != place]
        chances[place] = np.prod(others, axis=0).mean()
    whole: Array = chances / chances.sum()
    return whole
