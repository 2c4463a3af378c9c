"""Two-arm error test: does one arm fail more often than the other, whatever the base rate and however often one looks.

Under "the arm fails at most as often as the other", and given that somebody failed, the arm's chance of having been
the one is at most its share w of the attempts. An error of the arm multiplies a bet on relative risk r by
`r / (1 - w + w r)`, an error of the other one by `1 / (1 - w + w r)`; neither factor holds the base rate. So evidence
of segments with different shares multiplies, bet by bet. The bets are the quantiles of a uniform (beta(1, 1)) prior on
the excess share `1 - 1/r`, the share of the arm's errors that would not have happened in the other arm.

Why it is valid: given attempts and errors of a segment, the arm's errors are hypergeometric, and by Hoeffding (1963,
theorem 4) the average of the convex `r ** k` is then at most that of the binomial, `(1 - w + w r) ** n`. So w is the
share that the attempts really had, and heavy users that happen to fall into one arm do no harm. Ville (1939) bounds the
chance of ever reaching 1/alpha by alpha. The segment's end may depend on attempts, never on errors: one closes when
both arms have a few attempts.

A plain product forgets slowly: an arm that was healthy for a day would be found failing only a day later. So a bet is
also begun at each segment, with weights 1/(j (j + 1)) that sum to 1 over all starts: a mixture of e-processes is one
(Shin, Ramdas and Rinaldo, 2023, use the same starts without weights for a detector).
"""

from __future__ import annotations

import math
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from tidewheel.errors import InvalidInput
from tidewheel.stats.eprocess import MOST_LOG

Floats: TypeAlias = NDArray[np.float64]

BETS = 32  # quantiles of the prior: relative risks from 1.016 to 64
SEGMENT_ATTEMPTS = 5  # of either arm, before a segment closes; fewer would tell next to nothing


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How often two arms were tried and failed."""

    attempts: int = 0  # of the arm under test
    errors: int = 0  # of them failed
    other_attempts: int = 0  # of the arm it is compared with
    other_errors: int = 0  # of them failed

    def __add__(self, more: Tally) -> Tally:
        return Tally(
            attempts=self.attempts + more.attempts,
            errors=self.errors + more.errors,
            other_attempts=self.other_attempts + more.other_attempts,
            other_errors=self.other_errors + more.other_errors,
        )


class ArmErrors(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence so far that the arm fails more often; `update` returns the next state, this one stays as it is.

    >>> state = ArmErrors().update(Tally(attempts=600, errors=6, other_attempts=5_400, other_errors=5))
    >>> state.rejects(0.05), ArmErrors().e
    (True, 1.0)
    """

    logs: tuple[float, ...] = (-1e300,) * BETS  # logarithm of each bet's capital, over all starts so far
    segments: int = 0  # segments closed
    open: Tally = Tally()  # the segment that is not closed yet; no evidence
    total: Tally = Tally()  # everything seen, the open segment included

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value; the capital of starts that are still to come counts 1 each."""
        waiting = -math.log(self.segments + 1)
        return float(np.logaddexp(logsumexp(np.asarray(self.logs)) - math.log(BETS), waiting))

    @property
    def e(self) -> float:
        """The e-value: 1 is no evidence, 20 rejects at alpha 0.05; capped at 1e304."""
        return math.exp(min(self.log_e, MOST_LOG))

    def rejects(self, alpha: float) -> bool:
        """Say whether "fails at most as often" is rejected at level alpha, in (0, 1)."""
        return self.log_e >= -math.log(alpha)

    def update(self, seen: Tally) -> ArmErrors:
        """Return the state after more attempts of both arms over one stretch of time.

        Raises InvalidInput when there are more errors than attempts, or negative counts.
        """
        pending = self.open + _checked(seen)
        state = msgspec.structs.replace(self, open=pending, total=self.total + seen)
        if min(pending.attempts, pending.other_attempts) < SEGMENT_ATTEMPTS:
            return state
        start = self.segments + 1
        before = np.logaddexp(np.asarray(self.logs), -math.log(start * (start + 1.0)))
        logs = tuple(float(log) for log in before + segment_logs(pending))
        return msgspec.structs.replace(state, logs=logs, segments=start, open=Tally())


def relative_risks() -> Floats:
    """Return the relative risk that each bet is on, ascending."""
    excess = (np.arange(BETS) + 0.5) / BETS
    return np.asarray(1.0 / (1.0 - excess), dtype=np.float64)


def segment_logs(tally: Tally) -> Floats:
    """Return the logarithm of what each bet makes of a segment; segments of equal share add up exactly."""
    share = tally.attempts / (tally.attempts + tally.other_attempts)
    risks = relative_risks()
    return np.asarray(
        tally.errors * np.log(risks) - (tally.errors + tally.other_errors) * np.log1p(share * (risks - 1.0)),
        dtype=np.float64,
    )


def _checked(seen: Tally) -> Tally:
    if not (0 <= seen.errors <= seen.attempts and 0 <= seen.other_errors <= seen.other_attempts):
        raise InvalidInput(
            f"The counts do not fit: {seen.errors} errors of {seen.attempts} attempts, "
            f"{seen.other_errors} of {seen.other_attempts} in the other arm.",
            "Count attempts of every status, and errors among them.",
        )
    return seen
