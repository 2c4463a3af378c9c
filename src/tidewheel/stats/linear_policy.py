"""A linear contextual bandit, frozen: with which chance each arm is chosen for a context.

LinUCB: Li, Chu, Langford, Schapire (2010), A contextual-bandit approach to personalized news article recommendation.
LinTS: Agrawal, Goyal (2013), Thompson sampling for contextual bandits with linear payoffs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DRAWS = 1_000  # of the Monte Carlo over beliefs; fixed, so that every process computes the same chances

Array = NDArray[np.float64]


class LinearPolicy:
    """Chooses among arms by the context; holds no state that a call changes.

    `grams` [arms][d, d] are sums of x x', `moments` [arms][d] sums of reward times x; `explore` is the width of what is
    believed possible, in units of the reward; `ridge` the prior's weight; `floor` the least chance of each arm.

    The chance of an arm under LinTS is the share of `DRAWS` draws from the beliefs in which its reward is the highest;
    under LinUCB the arm with the highest upper bound gets all that the floors leave. Either way the chance is exactly
    the one by which an arm is then drawn, so weighing by its inverse is unbiased, however few the draws.

    >>> eye, zero = np.zeros((1, 1)), np.zeros(1)
    >>> LinearPolicy([eye, eye], [zero, zero + 9.0], algorithm="linucb", floor=0.1).chances(np.ones(1)).tolist()
    [0.1, 0.9]
    """

    def __init__(
        self,
        grams: Sequence[Array],
        moments: Sequence[Array],
        *,
        algorithm: Literal["lints", "linucb"] = "lints",
        explore: float = 0.5,
        ridge: float = 1.0,
        floor: float = 0.02,
    ) -> None:
        size = len(moments[0])
        inverses = [np.linalg.inv(gram + ridge * np.eye(size)) for gram in grams]
        self.coefficients = np.array([inverse @ moment for inverse, moment in zip(inverses, moments, strict=True)])
        self._inverses = np.array(inverses)
        self._sampled = algorithm == "lints"
        self._explore = explore
        self._floor = floor
        half = np.random.default_rng(0).normal(size=(DRAWS // 2, len(grams)))
        self._draws = np.concatenate([half, -half])  # in opposite pairs: two equal arms get equal chances

    def chances(self, context: Array) -> Array:
        """Return the chance [arms] of each arm for a context [d]."""
        means = self.coefficients @ context
        widths = self._explore * np.sqrt(np.maximum(self._inverses @ context @ context, 0.0))
        count = len(means)
        if self._sampled:
            best = np.bincount((means + widths * self._draws).argmax(axis=1), minlength=count) / DRAWS
        else:
            best = np.zeros(count)
            bounds = means + widths
            highest = bounds >= bounds.max() - 1e-12  # before anything is known all are equal
            best[highest] = 1 / highest.sum()
        chances: Array = self._floor + (1 - count * self._floor) * best
        return chances
