"""Risk detector: says soon when the mean loss has risen above what is tolerated, and rarely when it has not.

A Shiryaev-Roberts e-detector over the betting kernel: for every moment at which the rise could have begun an
e-process is started, and their sum S follows `S <- (1 + S) * factor`. While the mean loss is at most the tolerated
one, S minus the number of losses never grows on average, so the expected number of losses until S first reaches c is
at least c: the average run length to a false alarm is a stated number (Shin, Ramdas and Rinaldo, "E-detectors: a
nonparametric framework for sequential change detection", NEJSDS, 2023; tolerance after Podkopaev and Ramdas,
"Tracking the risk of a deployed model and detecting harmful distribution shifts", ICLR 2022).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from tidewheel.errors import InvalidInput
from tidewheel.stats.eprocess import MOST_LOG, Floats, betting_process, checked_values, log_factors, mixed


class RiskDetector(msgspec.Struct, frozen=True, kw_only=True):
    """Where the detector stands; `update` returns the next state, this one stays as it is.

    >>> detector = risk_detector(0.1, run_length=1_000)
    >>> detector = detector.update([1.0] * 6)
    >>> detector.alarmed, detector.alarm_at
    (True, 4)
    """

    tolerated: float  # greatest mean loss that is no alarm
    ceiling: float  # greatest possible loss; losses lie in [0, ceiling]
    run_length: float  # expected losses until a false alarm, at least
    stakes: tuple[float, ...]  # grid of bets: share of the capital at risk, in (0, 1)
    logs: tuple[float, ...]  # natural logarithm of S for each bet; -inf is kept as -1e300
    walks: tuple[float, ...]  # sum of log factors since the start, for each bet
    lows: tuple[float, ...]  # least value each walk has had
    low_at: tuple[int, ...]  # after how many losses it had it
    count: int = 0  # losses seen
    alarm_at: int | None = None  # losses seen when S first reached the run length

    @property
    def log_statistic(self) -> float:
        """The natural logarithm of the average S; an alarm is due when it reaches `log(run_length)`."""
        return mixed(np.asarray(self.logs))

    @property
    def statistic(self) -> float:
        """The average S, capped at 1e304."""
        return math.exp(min(self.log_statistic, MOST_LOG))

    @property
    def alarmed(self) -> bool:
        """Whether S has ever reached the run length."""
        return self.alarm_at is not None

    @property
    def rise_began(self) -> int:
        """Where the rise most likely began: the number of losses before it (the start that explains most)."""
        return self.low_at[int(np.argmax(self.logs))]

    def update(self, losses: ArrayLike) -> RiskDetector:
        """Return the state after more losses, in the order they arrived.

        Raises InvalidInput for losses outside [0, ceiling] or missing ones.
        """
        seen = checked_values(losses, 0.0, self.ceiling)
        if not len(seen):
            return self
        steps = np.cumsum(log_factors(seen, mean=self.tolerated, low=0.0, stakes=self.stakes), axis=0)
        before = np.vstack([np.zeros(len(self.stakes)), steps[:-1]])
        # S after n losses is P(n) * (S(0) + sum over j of 1 / P(j - 1)), where P is the product of factors.
        starts = np.logaddexp.accumulate(-before, axis=0)
        sums = steps + np.logaddexp(starts, np.asarray(self.logs))
        reached = np.flatnonzero(_mixed_rows(sums) >= math.log(self.run_length))
        alarm = self.alarm_at
        if alarm is None and len(reached):
            alarm = self.count + int(reached[0]) + 1
        lows, low_at = self._lowest(steps)
        return msgspec.structs.replace(
            self,
            logs=_floats(sums[-1]),
            walks=_floats(np.asarray(self.walks) + steps[-1]),
            lows=_floats(lows),
            low_at=tuple(int(at) for at in low_at),
            count=self.count + len(seen),
            alarm_at=alarm,
        )

    def _lowest(self, steps: Floats) -> tuple[Floats, Floats]:
        """Return each walk's least value and where it was, the steps included."""
        walks = np.asarray(self.walks) + steps
        where = len(walks) - 1 - np.argmin(walks[::-1], axis=0)  # the latest of equal ones
        least = walks[where, np.arange(walks.shape[1])]
        lower = least <= np.asarray(self.lows)
        at = np.where(lower, self.count + where + 1, np.asarray(self.low_at))
        return np.where(lower, least, np.asarray(self.lows)), at.astype(np.float64)


def risk_detector(tolerated: float, *, ceiling: float = 1.0, run_length: float = 10_000.0) -> RiskDetector:
    """Return a detector that has seen nothing.

    `tolerated` is the greatest mean loss that is no alarm (the reference risk plus what is tolerated on top), losses
    lie in [0, ceiling], `run_length` (at least 2) is the expected number of losses until a false alarm. Raises
    InvalidInput when tolerated is not strictly between 0 and ceiling.
    """
    if not run_length >= 2:
        raise InvalidInput(f"A run length of {run_length} alarms at once.", "Give at least 2; 10,000 is usual.")
    stakes = betting_process(tolerated, low=0.0, high=ceiling).stakes
    zeros = (0.0,) * len(stakes)
    return RiskDetector(
        tolerated=tolerated,
        ceiling=ceiling,
        run_length=run_length,
        stakes=stakes,
        logs=(-1e300,) * len(stakes),
        walks=zeros,
        lows=zeros,
        low_at=(0,) * len(stakes),
    )


def _mixed_rows(logs: Floats) -> Floats:
    peak = logs.max(axis=1)
    return np.asarray(peak + np.log(np.exp(logs - peak[:, None]).mean(axis=1)), dtype=np.float64)


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
