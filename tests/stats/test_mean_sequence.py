"""The asymptotic confidence sequence: moments against numpy, coverage and power against the notes' simulation."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from tidewheel.errors import InvalidInput
from tidewheel.stats.mean_sequence import MeanSequence, weighted_differences

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


@given(VALUES, VALUES)
def test_updates_in_parts_equal_numpy_over_all(first: list[float], second: list[float]) -> None:
    state = MeanSequence().update(first).update([]).update(second)
    assert state.count == len(first) + len(second)
    assert state.mean == pytest.approx(np.mean(first + second), abs=1e-6)
    assert state.deviation == pytest.approx(np.std(first + second), abs=1e-5)


def test_evidence_is_the_half_normal_mixture() -> None:
    """Against numerical integration of exp(b S - b^2 n / 2) over a half-normal b of variance rho squared."""
    random = np.random.default_rng(0)
    state = MeanSequence(expected=500).update(random.normal(0.1, 2.0, 400))
    rho2 = state._rho2
    total = state.count * (state.mean - 0.05) / state.deviation

    def integrand(bet: float) -> float:
        prior = 2 * math.exp(-(bet**2) / (2 * rho2)) / math.sqrt(2 * math.pi * rho2)
        return prior * math.exp(bet * total - bet**2 * state.count / 2)

    exact, _ = quad(integrand, 0, 2, limit=200)
    assert state.log_e(0.05) == pytest.approx(math.log(exact), abs=1e-6)


def test_interval_is_where_the_two_sided_evidence_reaches_the_level() -> None:
    """At the bound the normal mixture (prior on both sides) equals 1 / alpha."""
    state = MeanSequence().update(np.random.default_rng(1).normal(3.0, 1.0, 1_000))
    low = state.bounds(0.05).low
    total = state.count * (state.mean - low) / state.deviation
    grown = state.count * state._rho2 + 1
    assert math.exp(state._rho2 * total**2 / (2 * grown)) / math.sqrt(grown) == pytest.approx(20)


def paths(
    random: np.random.Generator, shift: float, runs: int, length: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return skewed paired differences (lognormal less lognormal) with a mean shifted by `shift` deviations."""
    spread = math.sqrt(2 * (math.e - 1) * math.e)
    return random.lognormal(0, 1, (runs, length)) - random.lognormal(0, 1, (runs, length)) + shift * spread


def test_false_positives_of_skewed_outcomes_stay_low_over_a_hundred_looks() -> None:
    """The notes: 3.0 % over 20,000 skewed pairs with burn-in 200, where a z-test peeked 100 times has 38 %."""
    random = np.random.default_rng(2)
    missed = z_test = 0
    for path in paths(random, 0.0, 120, 20_000):
        state, fooled, fooled_z = MeanSequence(), False, False
        for part in np.split(path, 100):
            state = state.update(part)
            bounds = state.bounds(0.05)
            fooled |= not bounds.low <= 0 <= bounds.high
            fooled_z |= abs(state.mean) > 1.96 * state.deviation / math.sqrt(state.count)
        missed += fooled
        z_test += fooled_z
    assert missed <= 120 * 0.05 + 2 * math.sqrt(120 * 0.05 * 0.95)
    assert z_test >= 120 * 0.2


def test_evidence_finds_an_effect_in_about_the_fixed_sample_size() -> None:
    """A shift of 0.1 deviations: a fixed design at 80 % power (one-sided 5 %) needs 618 pairs."""
    random = np.random.default_rng(3)
    stops = []
    for path in paths(random, 0.1, 60, 6_000):
        state, stop = MeanSequence(expected=1_000), math.inf
        for at, part in enumerate(np.split(path, 120), start=1):
            state = state.update(part)
            if stop == math.inf and state.log_e(0.0) >= math.log(20):
                stop = 50 * at
        stops.append(stop)
    assert 200 <= float(np.median(stops)) <= 1_500


def test_weighted_differences_average_to_the_difference_under_a_changing_split() -> None:
    random = np.random.default_rng(4)
    share = np.where(np.arange(400_000) < 200_000, 0.05, 0.25)
    in_arm = random.random(400_000) < share
    outcomes = random.normal(np.where(in_arm, 1.3, 1.0), 1.0)
    assert float(weighted_differences(outcomes, in_arm, share).mean()) == pytest.approx(0.3, abs=0.04)


def test_before_the_burn_in_nothing_is_said() -> None:
    state = MeanSequence().update([1.0] * 199)
    assert state.bounds(0.05).low == -math.inf
    assert state.log_e(-10.0) == 0.0
    assert state.update([1.0]).log_e(0.0) > 100
    assert state.update([1.0]).log_e(2.0) < -100


def test_state_survives_a_round_trip_and_bad_input_is_refused() -> None:
    state = MeanSequence().update([1.0, 2.5])
    assert msgspec.json.decode(msgspec.json.encode(state), type=MeanSequence) == state
    with pytest.raises(InvalidInput, match="finite"):
        state.update([math.nan])
    with pytest.raises(InvalidInput, match="one arm empty"):
        weighted_differences([1.0], [True], 1.0)
