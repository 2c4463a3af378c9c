"""The frozen linear bandit: chances against their definition, coefficients against ridge regression."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import Ridge

from tidewheel.stats.linear_policy import LinearPolicy


def learned(seed: int = 0, rows: int = 80) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    contexts = [random.normal(size=(rows, 3)) for _ in range(2)]
    rewards = [
        x @ coefficients + random.normal(size=rows)
        for x, coefficients in zip(contexts, ([1, 0, 2], [0, 1, -1]), strict=True)
    ]
    grams = [x.T @ x for x in contexts]
    return grams, [x.T @ y for x, y in zip(contexts, rewards, strict=True)], [*contexts, *rewards]


def test_coefficients_are_those_of_ridge_regression() -> None:
    grams, moments, data = learned()
    policy = LinearPolicy(grams, moments, ridge=2.0)
    for arm in range(2):
        fitted = Ridge(alpha=2.0, fit_intercept=False).fit(data[arm], data[2 + arm])
        assert policy.coefficients[arm] == pytest.approx(fitted.coef_)


def test_thompson_chances_of_two_arms_match_the_normal_distribution() -> None:
    grams, moments, _ = learned()
    policy = LinearPolicy(grams, moments, explore=3.0, floor=0.01)
    for context in np.random.default_rng(1).normal(size=(20, 3)):
        inverses = [np.linalg.inv(gram + np.eye(3)) for gram in grams]
        gap = (inverses[0] @ moments[0] - inverses[1] @ moments[1]) @ context
        width = 3.0 * np.sqrt(sum(context @ inverse @ context for inverse in inverses))
        expected = 0.01 + 0.98 * norm.cdf(gap / width)
        assert policy.chances(context)[0] == pytest.approx(expected, abs=0.04)


def test_the_upper_bound_decides_under_linucb() -> None:
    grams, moments, _ = learned()
    policy = LinearPolicy(grams, moments, algorithm="linucb", explore=2.0, floor=0.05)
    for context in np.random.default_rng(1).normal(size=(20, 3)):
        inverses = [np.linalg.inv(gram + np.eye(3)) for gram in grams]
        bounds = [
            inverse @ moment @ context + 2.0 * np.sqrt(context @ inverse @ context)
            for inverse, moment in zip(inverses, moments, strict=True)
        ]
        expected = [0.95, 0.05] if bounds[0] > bounds[1] else [0.05, 0.95]
        assert policy.chances(context) == pytest.approx(expected)


@pytest.mark.parametrize("algorithm", ["lints", "linucb"])
def test_chances_add_up_keep_the_floor_and_are_the_same_in_every_process(algorithm: str) -> None:
    grams, moments, _ = learned()
    made = [LinearPolicy(grams, moments, algorithm=algorithm, floor=0.02) for _ in range(2)]  # type: ignore[arg-type]
    for context in np.random.default_rng(1).normal(size=(20, 3)):
        chances = made[0].chances(context)
        assert chances.sum() == pytest.approx(1)
        assert chances.min() >= 0.02
        assert chances.tolist() == made[1].chances(context).tolist()


def test_before_any_reward_all_are_alike() -> None:
    nothing = [np.zeros((2, 2))] * 4, [np.zeros(2)] * 4
    for algorithm in ("lints", "linucb"):
        policy = LinearPolicy(*nothing, algorithm=algorithm)
        assert policy.chances(np.array([1.0, 0.5])) == pytest.approx([0.25] * 4, abs=0.05)
