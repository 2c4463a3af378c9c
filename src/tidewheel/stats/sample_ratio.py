"""Sequential sample-ratio check: do units fall into the arm as often as the split says, however often one looks.

The Bayes factor of a beta-binomial model around the split against the split itself, an e-process under the split
(Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022, for two arms). A skewed split
means that assignment or logging is broken, and then no comparison of the arms can be trusted. Segments with different
shares multiply.
"""

from __future__ import annotations

import math

import msgspec
from scipy.special import betaln

from tidewheel.errors import InvalidInput
from tidewheel.stats.eprocess import MOST_LOG

PRIOR_UNITS = 100.0  # how closely around the split the alternative lies, as if so many units had been seen


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence so far that the split is not kept; `update` returns the next state, this one stays as it is.

    >>> fair = SampleRatio().update(0.5, units=5_030, other_units=4_970)
    >>> skewed = SampleRatio().update(0.5, units=5_300, other_units=4_700)
    >>> fair.rejects(0.01), skewed.rejects(0.01)
    (False, True)
    """

    share: float = 0.5  # share of units that the arm should get in the open segment, in (0, 1)
    units: int = 0  # units that fell into the arm in the open segment
    other_units: int = 0  # units that did not
    closed: float = 0.0  # natural logarithm of the evidence of closed segments

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value."""
        return self.closed + _log_factor(self.share, self.units, self.other_units)

    @property
    def e(self) -> float:
        """The e-value: 1 is no evidence, 100 rejects at alpha 0.01; capped at 1e304."""
        return math.exp(min(self.log_e, MOST_LOG))

    def rejects(self, alpha: float) -> bool:
        """Say whether the split is rejected at level alpha, in (0, 1)."""
        return self.log_e >= -math.log(alpha)

    def update(self, share: float, *, units: int, other_units: int) -> SampleRatio:
        """Return the state after more units, each counted once; another share than before begins a segment.

        Raises InvalidInput for a share outside (0, 1) or negative counts.
        """
        if not 0 < share < 1 or min(units, other_units) < 0:
            raise InvalidInput(
                f"{units} and {other_units} units cannot be checked against a share of {share}.",
                "Give a share between 0 and 1 and counts of at least 0.",
            )
        if share == self.share:
            counts = {"units": self.units + units, "other_units": self.other_units + other_units}
            return msgspec.structs.replace(self, **counts)
        return SampleRatio(share=share, units=units, other_units=other_units, closed=self.log_e)


def _log_factor(share: float, units: int, other_units: int) -> float:
    prior, other_prior = PRIOR_UNITS * share, PRIOR_UNITS * (1 - share)
    grown = float(betaln(prior + units, other_prior + other_units) - betaln(prior, other_prior))
    return grown - units * math.log(share) - other_units * math.log1p(-share)
