"""Betting e-process: evidence against "the mean is at most m" that may be looked at after every value.

A gambler starts with 1 and bets on values that lie in [low, high]. After a value x a bet of size s has become
`1 + s * (x - m)`: under "mean <= m" no bet grows on average, so by Ville's inequality (1939) the chance that the
capital ever reaches 1/alpha is at most alpha, however often one looks and whenever one stops. The capital is the
average over a fixed grid of bets, so the size of the effect need not be known (Waudby-Smith and Ramdas, "Estimating
means of bounded random variables by betting", JRSS B, 2024; Shafer, "Testing by betting", JRSS A, 2021). Values may
depend on the past, they need no common distribution; only their conditional mean matters.

The logarithm of each bet's capital is a sum over values: it may be summed in any order and over any parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from tidewheel.errors import InvalidInput

Floats: TypeAlias = NDArray[np.float64]

LARGEST_STAKE = 0.95  # share of the capital that the worst value may take; 1 would risk ruin
SMALLEST_BET = 0.02  # in units of the value range; a smaller effect would need millions of values
MOST_LOG = 700.0  # exp of more overflows a float; as evidence it makes no difference


class BettingProcess(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence so far against "mean <= mean of the null"; `update` returns the next state, this one stays as it is.

    To test "mean >= m" negate: values `-x`, null `-m`, range [-high, -low].

    >>> process = betting_process(0.1)
    >>> process = process.update([1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    >>> process.count, process.e >= 20
    (7, True)
    """

    mean: float  # the null: the true mean is at most this
    low: float  # least possible value
    high: float  # greatest possible value
    stakes: tuple[float, ...]  # grid of bets: share of the capital at risk, in (0, 1)
    logs: tuple[float, ...]  # natural logarithm of each bet's capital
    count: int = 0  # values seen

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value; at alpha the null is rejected when it reaches `log(1 / alpha)`."""
        return mixed(np.asarray(self.logs))

    @property
    def e(self) -> float:
        """The e-value: 1 is no evidence, 20 rejects at alpha 0.05; capped at 1e304."""
        return math.exp(min(self.log_e, MOST_LOG))

    def rejects(self, alpha: float) -> bool:
        """Say whether the null is rejected at level alpha, in (0, 1)."""
        return self.log_e >= -math.log(alpha)

    def update(self, values: ArrayLike, *, counts: ArrayLike | None = None) -> BettingProcess:
        """Return the state after more values, each in [low, high]; `counts` says how often each one was seen.

        Raises InvalidInput for values outside the range, missing values or negative counts.
        """
        seen = checked_values(values, self.low, self.high)
        times = np.ones(len(seen)) if counts is None else _checked_counts(counts, len(seen))
        if not len(seen):
            return self
        gained = times @ log_factors(seen, mean=self.mean, low=self.low, stakes=self.stakes)
        logs = tuple(float(log) for log in np.asarray(self.logs) + gained)
        return msgspec.structs.replace(self, logs=logs, count=self.count + round(float(times.sum())))


def betting_process(
    mean: float, *, low: float = 0.0, high: float = 1.0, stakes: Sequence[float] | None = None
) -> BettingProcess:
    """Return a process without values for the null "mean <= mean", values in [low, high].

    `stakes` replaces the grid of bets, each the share of the capital that the least value would take, in (0, 1):
    large ones alone find a large effect sooner and miss a small one. Raises InvalidInput when the mean is not strictly
    between low and high, or a stake is out of range.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < mean < high):
        raise InvalidInput(
            f"A mean of {mean} cannot be tested for values from {low} to {high}.",
            "Choose a mean strictly between the least and the greatest possible value.",
        )
    grid = tuple(stakes) if stakes is not None else stake_grid((mean - low) / (high - low))
    if not grid or not all(0.0 < stake < 1.0 for stake in grid):
        raise InvalidInput(f"The stakes {grid} cannot be used.", "Give at least one stake, each between 0 and 1.")
    return BettingProcess(mean=mean, low=low, high=high, stakes=grid, logs=(0.0,) * len(grid))


def merge(first: BettingProcess, second: BettingProcess) -> BettingProcess:
    """Return the state that has seen the values of both; InvalidInput when they test different nulls.

    The merged evidence is that of one process over all values. It is valid where the values of the second are
    independent of the first given the past, as with two workers of one service.
    """
    if (first.mean, first.low, first.high, first.stakes) != (second.mean, second.low, second.high, second.stakes):
        raise InvalidInput(
            f"Evidence against a mean of {first.mean} cannot be merged with evidence against {second.mean}.",
            "Merge only processes that were begun with the same mean, range and stakes.",
        )
    logs = tuple(mine + other for mine, other in zip(first.logs, second.logs, strict=True))
    return msgspec.structs.replace(first, logs=logs, count=first.count + second.count)


def stake_grid(position: float) -> tuple[float, ...]:
    """Return stakes that halve from 0.95 down to the smallest useful bet; `position` is the null's mean in (0, 1).

    Between neighbours, a factor of two, the best bet's growth is kept to 83 % or more.
    """
    halvings = max(0, math.ceil(math.log2(LARGEST_STAKE / (position * SMALLEST_BET))))
    return tuple(LARGEST_STAKE / 2**power for power in range(halvings + 1))


def log_factors(values: Floats, *, mean: float, low: float, stakes: Sequence[float]) -> Floats:
    """Return the logarithm of what each bet makes of each value, [values, stakes]."""
    bets = np.asarray(stakes) / (mean - low)
    return np.asarray(np.log1p(np.multiply.outer(values - mean, bets)), dtype=np.float64)


def mixed(logs: Floats) -> float:
    """Return the logarithm of the average of capitals that are given as logarithms."""
    return float(logsumexp(logs)) - math.log(len(logs))


def checked_values(values: ArrayLike, low: float, high: float) -> Floats:
    """Return values as an array, or raise InvalidInput when one is missing or outside [low, high]."""
    seen = np.atleast_1d(np.asarray(values, dtype=np.float64))
    outside = ~((seen >= low) & (seen <= high))
    if seen.ndim != 1 or outside.any():
        what = f"shape {seen.shape}" if seen.ndim != 1 else f"{seen[outside][0]} at position {int(outside.argmax())}"
        raise InvalidInput(
            f"The values cannot be bet on: {what}.",
            f"Give one list of numbers from {low} to {high}; clip or rescale what lies outside.",
        )
    return seen


def _checked_counts(counts: ArrayLike, length: int) -> Floats:
    times = np.atleast_1d(np.asarray(counts, dtype=np.float64))
    if times.shape != (length,) or not (times >= 0).all():
        raise InvalidInput(
            f"The counts {times.tolist()} do not fit {length} values.", "Give one count of at least 0 for each value."
        )
    return times
