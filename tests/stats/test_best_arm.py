"""The chance of being best: against closed forms and plain Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from tidewheel.stats.best_arm import Seen, best_of_bernoulli, best_of_normal, with_floor


def better(one: Seen, other: Seen) -> float:
    """The chance that the second rate is higher, by the finite sum for whole numbers (Miller, 2014)."""
    a, b = 1 + one.total, 1 + one.weight - one.total
    c, d = 1 + other.total, 1 + other.weight - other.total
    return sum(
        math.exp(betaln(a + i, b + d) - math.log(d + i) - betaln(1 + i, d) - betaln(a, b)) for i in range(int(c))
    )


@settings(max_examples=40)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_two_rates_match_the_closed_form(ones: int, zeros: int, others: int, nothings: int) -> None:
    one, other = Seen(weight=ones + zeros, total=ones), Seen(weight=others + nothings, total=others)
    assert best_of_bernoulli([one, other])[1] == pytest.approx(better(one, other), abs=2e-3)


def test_several_rates_match_monte_carlo() -> None:
    arms = [Seen(weight=50, total=20), Seen(weight=30, total=15), Seen(weight=4, total=1), Seen()]
    random = np.random.default_rng(0)
    drawn = np.stack([random.beta(1 + arm.total, 1 + arm.weight - arm.total, 400_000) for arm in arms])
    expected = np.bincount(drawn.argmax(axis=0), minlength=4) / 400_000
    assert best_of_bernoulli(arms) == pytest.approx(expected, abs=4e-3)


def test_several_means_match_monte_carlo_over_the_posterior() -> None:
    random = np.random.default_rng(1)
    rewards = [random.normal(mean, 2.0, size) for mean, size in ((5.0, 40), (5.5, 25), (4.0, 6))]
    arms = [Seen(weight=len(each), total=each.sum(), squares=(each**2).sum()) for each in rewards]
    pooled = np.concatenate(rewards)
    drawn = []
    for each in rewards:
        mean = (pooled.mean() + each.sum()) / (1 + len(each))
        between = len(each) * (each.mean() - pooled.mean()) ** 2 / (1 + len(each))
        rate = pooled.var() + (((each - each.mean()) ** 2).sum() + between) / 2
        variances = rate / random.gamma(1 + len(each) / 2, size=400_000)
        drawn.append(random.normal(mean, np.sqrt(variances / (1 + len(each)))))
    expected = np.bincount(np.stack(drawn).argmax(axis=0), minlength=3) / 400_000
    assert best_of_normal(arms) == pytest.approx(expected, abs=5e-3)


@settings(max_examples=20)
@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e3))
def test_neither_shift_nor_scale_of_rewards_matters(shift: float, scale: float) -> None:
    random = np.random.default_rng(2)
    rewards = [random.normal(mean, 1.0, 20) for mean in (0.0, 0.3)]

    def chances(values: list[np.ndarray]) -> np.ndarray:
        return best_of_normal([Seen(weight=20, total=each.sum(), squares=(each**2).sum()) for each in values])

    moved = chances([each * scale + shift for each in rewards])
    assert moved == pytest.approx(chances(rewards), abs=1e-3)


def test_before_any_reward_all_are_alike() -> None:
    assert best_of_bernoulli([Seen()] * 4) == pytest.approx([0.25] * 4, abs=1e-6)
    assert best_of_normal([Seen()] * 4).tolist() == [0.25] * 4


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda each: sum(each) > 0.01), st.floats(0.01, 0.15))
def test_the_floor_is_kept_and_order_with_it(chances: list[float], floor: float) -> None:
    lifted = with_floor(np.array(chances), floor)
    assert lifted.sum() == pytest.approx(1)
    assert lifted.min() >= floor - 1e-12
    assert np.all(np.diff(lifted[np.argsort(chances)]) >= -1e-12)
