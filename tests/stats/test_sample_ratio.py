"""The sample-ratio check: against exact binomial averages, with the notes' false-alarm and power figures."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tidewheel.errors import InvalidInput
from tidewheel.stats.sample_ratio import SampleRatio


@given(st.floats(0.01, 0.99), st.integers(1, 60))
def test_the_average_e_value_under_the_split_is_one(share: float, units: int) -> None:
    expected = sum(
        float(stats.binom.pmf(arm, units, share)) * SampleRatio().update(share, units=arm, other_units=units - arm).e
        for arm in range(units + 1)
    )
    assert expected == pytest.approx(1.0, abs=1e-6)


@given(st.floats(0.01, 0.99), st.tuples(*[st.integers(0, 500)] * 4))
def test_updates_in_parts_equal_one_update(share: float, counts: tuple[int, int, int, int]) -> None:
    parts = SampleRatio().update(share, units=counts[0], other_units=counts[1])
    parts = parts.update(share, units=counts[2], other_units=counts[3])
    whole = SampleRatio().update(share, units=counts[0] + counts[2], other_units=counts[1] + counts[3])
    assert parts.log_e == pytest.approx(whole.log_e, abs=1e-9)


def test_segments_of_different_shares_multiply() -> None:
    first = SampleRatio().update(0.05, units=60, other_units=900)
    second = SampleRatio().update(0.25, units=300, other_units=850)
    both = SampleRatio().update(0.05, units=60, other_units=900).update(0.25, units=300, other_units=850)
    assert both.log_e == pytest.approx(first.log_e + second.log_e)


def rejected(random: np.random.Generator, truth: float, share: float, units: int) -> bool:
    state = SampleRatio()
    for _ in range(100):
        arm = int(random.binomial(units // 100, truth))
        state = state.update(share, units=arm, other_units=units // 100 - arm)
        if state.rejects(0.01):
            return True
    return False


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_false_alarms_stay_below_one_percent_over_a_hundred_looks(share: float) -> None:
    random = np.random.default_rng(1)
    assert sum(rejected(random, share, share, 20_000) for _ in range(300)) <= 6


def test_a_skew_of_two_percent_is_found_in_100000_units() -> None:
    random = np.random.default_rng(2)
    assert sum(rejected(random, 0.51, 0.5, 100_000) for _ in range(50)) >= 45


def test_state_survives_a_round_trip_and_bad_input_is_refused() -> None:
    state = SampleRatio().update(0.05, units=3, other_units=70)
    assert msgspec.json.decode(msgspec.json.encode(state), type=SampleRatio) == state
    for share, units in ((0.0, 1), (1.0, 1), (0.5, -1)):
        with pytest.raises(InvalidInput, match="between 0 and 1"):
            state.update(share, units=units, other_units=1)
