"""What would each arm have earned alone? Estimates from a log in which every decision stands with its chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmValue:
    """The mean reward of one arm, had it answered everything."""

    ips: float  # inverse propensity score: unbiased (Horvitz, Thompson, 1952)
    ips_error: float  # its standard error
    snips: float  # self-normalised: hardly biased, less scattered (Swaminathan, Joachims, 2015)
    snips_error: float  # its standard error, by the delta method
    chosen: int  # decisions for this arm


def arm_value(rewards: ArrayLike, chosen: ArrayLike, propensities: ArrayLike) -> ArmValue:
    """Return the value of an arm from all decisions [n] of a log.

    `chosen` says of each decision whether it was for this arm, `propensities` with which chance what was chosen was
    chosen; rewards and chances of other decisions are not looked at.

    >>> arm_value([1.0, 0.0, 5.0, 5.0], [True, True, False, False], [0.5, 0.5, 0.5, 0.5]).ips
    0.5
    """
    taken = np.asarray(chosen, dtype=bool)
    weights = np.where(taken, 1.0 / np.asarray(propensities, dtype=np.float64), 0.0)
    earned = weights * np.where(taken, np.asarray(rewards, dtype=np.float64), 0.0)
    count = len(weights)
    total = weights.sum()
    if not total:
        return ArmValue(ips=0.0, ips_error=float("inf"), snips=float("nan"), snips_error=float("inf"), chosen=0)
    ips, snips = earned.mean(), earned.sum() / total
    return ArmValue(
        ips=float(ips),
        ips_error=float(earned.std(ddof=1) / np.sqrt(count)) if count > 1 else float("inf"),
        snips=float(snips),
        snips_error=float(np.sqrt(((earned - weights * snips) ** 2).sum()) / total),
        chosen=int(taken.sum()),
    )
