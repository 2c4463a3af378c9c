"""Asymptotic confidence sequence: an interval for a mean that may be read after every value, without bounds on values.

The running mean plus or minus `s * sqrt(2 (n r + 1) / (n n r) * log(sqrt(n r + 1) / alpha))`, s the standard deviation,
n the count and r (rho squared) a scale that is fixed beforehand to be narrowest at an expected count. It covers the
mean at all counts at once with probability 1 - alpha as the first look moves out: the sequential twin of the
central-limit interval (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", 2021, Annals of Statistics 2024, theorem 2.2 and equation 10). The evidence is the
half-normal mixture behind their one-sided version (Robbins, 1970).

Where two arms are compared, each outcome is weighted by the inverse of its arm's chance: the mean of
`weighted_differences` is the difference of the arms' means whatever the split, also when it changes between outcomes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from tidewheel.errors import InvalidInput
from tidewheel.stats.eprocess import MOST_LOG

Floats: TypeAlias = NDArray[np.float64]

BURN_IN = 200  # values before anything is said: the central limit needs them for skewed values
TUNED_ALPHA = 0.05  # level at which the interval is narrowest; the coverage holds at any


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """An interval for the mean; infinite before the burn-in is over."""

    mean: float  # mean of the values, 0 without values
    low: float  # lower bound
    high: float  # upper bound


class MeanSequence(msgspec.Struct, frozen=True, kw_only=True):
    """Moments of the values so far; `update` returns the next state, this one stays as it is.

    >>> state = MeanSequence().update([0.9, 1.1] * 500)
    >>> bounds = state.bounds(0.05)
    >>> 0.98 < bounds.low < 1.0 < bounds.high < 1.02
    True
    """

    expected: int = 2_000  # count of values at which the interval is narrowest
    burn_in: int = BURN_IN  # values before anything is said
    count: int = 0  # values seen
    mean: float = 0.0  # their mean
    squares: float = 0.0  # sum of squared deviations from the mean

    @property
    def deviation(self) -> float:
        """The standard deviation of the values, 0 without values."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def update(self, values: ArrayLike) -> MeanSequence:
        """Return the state after more values; InvalidInput when one is missing or infinite."""
        seen = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if not np.isfinite(seen).all():
            raise InvalidInput("A value is missing or infinite.", "Give finite numbers; leave out what is not known.")
        if not len(seen):
            return self
        count = self.count + len(seen)
        mean = float(seen.mean())
        apart = mean - self.mean
        squares = self.squares + float(((seen - mean) ** 2).sum()) + apart**2 * self.count * len(seen) / count
        moved = self.mean + apart * len(seen) / count
        return msgspec.structs.replace(self, count=count, mean=moved, squares=squares)

    def bounds(self, alpha: float) -> Bounds:
        """Return the two-sided interval of level 1 - alpha, alpha in (0, 1)."""
        if self.count < max(2, self.burn_in):
            return Bounds(mean=self.mean, low=-math.inf, high=math.inf)
        grown = self.count * self._rho2 + 1.0
        half = math.sqrt(2 * grown / (self.count**2 * self._rho2) * math.log(math.sqrt(grown) / alpha))
        return Bounds(mean=self.mean, low=self.mean - self.deviation * half, high=self.mean + self.deviation * half)

    def log_e(self, null: float) -> float:
        """Return the natural logarithm of the asymptotic e-value against "the mean is at most null"."""
        if self.count < max(2, self.burn_in):
            return 0.0
        if self.deviation == 0.0:
            return MOST_LOG if self.mean > null else -MOST_LOG
        total = self.count * (self.mean - null) / self.deviation
        grown = self.count * self._rho2 + 1.0
        score = math.sqrt(self._rho2 / grown) * total
        return math.log(2.0) - 0.5 * math.log(grown) + score**2 / 2 + float(log_ndtr(score))

    @property
    def _rho2(self) -> float:
        doubled = -2 * math.log(TUNED_ALPHA)
        return (doubled + math.log(doubled + 1)) / self.expected


def weighted_differences(outcomes: ArrayLike, in_arm: ArrayLike, share: ArrayLike) -> Floats:
    """Return one value per outcome whose mean is the arm's mean outcome less the other's.

    `in_arm` says which outcomes are the arm's, `share` is the chance in (0, 1) with which each unit was given to it
    (Horvitz and Thompson, 1952). Raises InvalidInput for a share of 0 or 1: then there is nothing to compare.
    """
    values, chosen = np.asarray(outcomes, dtype=np.float64), np.asarray(in_arm, dtype=bool)
    chance = np.broadcast_to(np.asarray(share, dtype=np.float64), values.shape)
    if not ((chance > 0) & (chance < 1)).all():
        raise InvalidInput(
            f"A share of {float(chance[~((chance > 0) & (chance < 1))][0])} leaves one arm empty.",
            "Compare arms only where both get a part of the units.",
        )
    return np.where(chosen, values / chance, -values / (1.0 - chance))
