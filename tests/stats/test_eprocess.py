"""The betting e-process: its algebra exactly, its error rates by simulation with fixed seeds."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewheel.errors import InvalidInput
from tidewheel.stats.eprocess import BettingProcess, betting_process, merge, stake_grid

UNIT = st.lists(st.floats(0.0, 1.0), max_size=30)


@given(st.floats(0.01, 0.99), UNIT, UNIT)
def test_updates_in_parts_equal_one_update(mean: float, first: list[float], second: list[float]) -> None:
    whole = betting_process(mean).update(first + second)
    parts = betting_process(mean).update(first).update(second)
    assert parts.count == whole.count
    assert parts.logs == pytest.approx(whole.logs, abs=1e-9)


@given(st.floats(0.01, 0.99), UNIT, UNIT)
def test_merged_equals_sequential(mean: float, first: list[float], second: list[float]) -> None:
    merged = merge(betting_process(mean).update(first), betting_process(mean).update(second))
    sequential = betting_process(mean).update(second).update(first)
    assert merged.count == sequential.count
    assert merged.log_e == pytest.approx(sequential.log_e, abs=1e-9)


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.25, 1.0]), max_size=60))
def test_counts_equal_repeated_values(values: list[float]) -> None:
    levels = [-1.0, 0.0, 0.25, 1.0]
    start = betting_process(-0.05, low=-1.0, high=1.0)
    counted = start.update(levels, counts=[values.count(level) for level in levels])
    assert counted.count == len(values)
    assert counted.log_e == pytest.approx(start.update(values).log_e, abs=1e-9)


@given(st.floats(0.02, 0.98), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_no_bet_grows_on_average_under_the_null(mean: float, low: float, share: float) -> None:
    """The e-value of one value averages to at most 1 over any two-point distribution with mean at most `mean`."""
    low, high = low * mean, mean + (1.0 - mean) * share
    weight = 0.0 if high == low else (mean - low) / (high - low)  # of the upper point
    expected = sum(
        chance * betting_process(mean).update([value]).e for chance, value in ((weight, high), (1 - weight, low))
    )
    assert expected <= 1.0 + 1e-9


@given(UNIT, st.floats(0.1, 50.0), st.floats(-20.0, 20.0))
def test_the_unit_of_the_values_does_not_matter(values: list[float], width: float, shift: float) -> None:
    plain = betting_process(0.3).update(values)
    scaled = betting_process(0.3 * width + shift, low=shift, high=width + shift)
    moved = scaled.update(np.clip(np.asarray(values) * width + shift, shift, width + shift))
    assert moved.log_e == pytest.approx(plain.log_e, rel=1e-3, abs=1e-3)


@given(UNIT)
def test_state_survives_a_round_trip(values: list[float]) -> None:
    state = betting_process(0.2).update(values)
    assert msgspec.json.decode(msgspec.json.encode(state), type=BettingProcess) == state
    assert msgspec.convert(msgspec.to_builtins(state), BettingProcess) == state


def test_capital_is_the_average_over_the_bets_written_out_by_hand() -> None:
    state = betting_process(0.25, stakes=[0.5, 0.1]).update([1.0, 0.0])
    by_hand = [(1 + stake / 0.25 * 0.75) * (1 - stake / 0.25 * 0.25) for stake in (0.5, 0.1)]
    assert state.e == pytest.approx(sum(by_hand) / 2)


@pytest.mark.parametrize(
    ("mean", "draw"),
    [(0.001, "bernoulli"), (0.1, "bernoulli"), (0.5, "bernoulli"), (0.3, "beta"), (0.02, "beta")],
)
def test_false_rejections_stay_below_alpha_under_continuous_peeking(mean: float, draw: str) -> None:
    """2,000 runs of 2,000 values with the mean exactly at the null, looked at after every value: at most 5 % reject."""
    random = np.random.default_rng(7)
    shape = (2_000, 2_000)
    values = random.random(shape) < mean if draw == "bernoulli" else random.beta(mean, 1 - mean, shape)
    null = betting_process(mean)
    bets = np.asarray(null.stakes) / mean
    capital = np.zeros(shape)
    for bet in bets:
        capital += np.exp(np.cumsum(np.log1p(bet * (values - mean)), axis=1)) / len(bets)
    share = float((capital.max(axis=1) >= 20).mean())
    assert 0.001 <= share <= 0.05  # above zero, so that the simulation could have failed
    last = null.update(np.asarray(values[0], dtype=np.float64))
    assert last.e == pytest.approx(capital[0, -1])


def test_dependent_values_with_the_null_as_conditional_mean_do_not_reject_too_often() -> None:
    """The size of each value depends on the ones before; the mean given the past stays 0.5."""
    random = np.random.default_rng(11)
    rejected = 0
    for _ in range(300):
        signs = random.choice([-1.0, 1.0], 600)
        spread = np.where(np.concatenate([[1.0], signs[:-1]]) > 0, 0.5, 0.05)
        state = betting_process(0.5)
        for part in np.split(0.5 + spread * signs, 60):
            state = state.update(part)
            if state.rejects(0.05):
                rejected += 1
                break
    assert rejected <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)


@pytest.mark.parametrize(
    ("null", "truth", "most"),
    [(0.001, 0.005, 2_600), (0.1, 0.2, 190), (0.5, 0.6, 280), (0.1, 0.11, 26_000)],
)
def test_a_real_effect_is_found_in_about_the_optimal_number_of_values(null: float, truth: float, most: int) -> None:
    """Median stop at alpha 0.05; no test can do better than about log(20) / KL(truth, null) values."""
    random = np.random.default_rng(3)
    stops = []
    for _ in range(40):
        values = (random.random(4 * most) < truth).astype(np.float64)
        state = betting_process(null)
        bets = np.asarray(state.stakes) / null
        logs = np.cumsum(np.log1p(np.multiply.outer(values - null, bets)), axis=0)
        found = np.flatnonzero(np.exp(np.minimum(logs, 600)).mean(axis=1) >= 20)
        stops.append(found[0] + 1 if len(found) else np.inf)
    divergence = truth * math.log(truth / null) + (1 - truth) * math.log((1 - truth) / (1 - null))
    median = float(np.median(stops))
    assert math.log(20) / divergence * 0.5 < median <= most


@settings(max_examples=50)
@given(st.floats(1e-6, 1 - 1e-6))
def test_stakes_reach_from_small_bets_to_almost_everything(position: float) -> None:
    grid = stake_grid(position)
    assert grid[0] == 0.95
    assert grid[-1] / position <= 0.02 or len(grid) == 1
    assert len(grid) <= 32


@pytest.mark.parametrize("mean", [0.0, 1.0, -0.5, 2.0, math.nan])
def test_a_mean_outside_the_range_is_refused(mean: float) -> None:
    with pytest.raises(InvalidInput, match="strictly between"):
        betting_process(mean)


@pytest.mark.parametrize("values", [[0.5, 1.5], [-0.1], [math.nan], [[0.1], [0.2]]])
def test_values_that_cannot_be_bet_on_are_refused(values: list[float]) -> None:
    with pytest.raises(InvalidInput, match=r"numbers from 0\.0 to 1\.0"):
        betting_process(0.5).update(values)


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="one count"):
        betting_process(0.5).update([0.0, 1.0], counts=[1])
    with pytest.raises(InvalidInput, match="one count"):
        betting_process(0.5).update([0.0, 1.0], counts=[1, -1])


def test_stakes_out_of_range_and_merging_different_nulls_are_refused() -> None:
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        betting_process(0.5, stakes=[1.0])
    with pytest.raises(InvalidInput, match="same mean"):
        merge(betting_process(0.5), betting_process(0.4))


def test_no_values_are_no_evidence() -> None:
    assert betting_process(0.5).update([]).e == pytest.approx(1.0)
    assert betting_process(0.5).update([]).count == 0


def test_overwhelming_evidence_stays_a_finite_number() -> None:
    state = betting_process(0.01).update([1.0], counts=[1_000_000])
    assert math.isfinite(state.e)
    assert state.e > 1e300
    assert state.rejects(1e-9)
