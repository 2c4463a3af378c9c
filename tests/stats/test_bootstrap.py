"""The paired bootstrap covers what it promises, whatever order and grouping the rows come in."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from tidewheel.errors import InvalidInput
from tidewheel.stats.bootstrap import (
    CELLS_AT_ONCE,
    Floats,
    bootstrap_interval,
    collapse,
    paired_difference,
    poisson_weights,
)
from tidewheel.stats.delong import delong_difference

Sample = Callable[[np.random.Generator, int], tuple[Floats, Floats]]


def mean(columns: Floats, weights: Floats) -> Floats:
    average: Floats = weights @ columns[:, 0] / weights.sum(axis=1)
    return average


def root_mean(columns: Floats, weights: Floats) -> Floats:
    root: Floats = np.sqrt(mean(columns, weights))
    return root


def f1(columns: Floats, weights: Floats) -> Floats:
    truth, predicted = columns[:, 0], columns[:, 1]
    return 2 * weights @ (truth * predicted) / (weights @ (truth + predicted))


def hits_and_misses(random: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    """Return correctness of two classifiers that differ on 9 % of the rows; the first is better by 0.03."""
    kind = random.choice(4, size=rows, p=[0.06, 0.03, 0.73, 0.18])
    first = np.isin(kind, [0, 2]).astype(float)
    second = np.isin(kind, [1, 2]).astype(float)
    return first[:, None], second[:, None]


def squared_errors(random: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    """Return squared errors that share a heavy-tailed part; root mean squares are known."""
    shared = random.standard_t(6, rows)
    first, second = shared + random.normal(0, 0.5, rows), shared + random.normal(0, 1.0, rows)
    return (first**2)[:, None], (second**2)[:, None]


def rare_class(random: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    truth = random.random(rows) < 0.2
    first = np.where(random.random(rows) < 0.8, truth, ~truth)
    second = np.where(random.random(rows) < 0.7, truth, ~truth)
    return np.c_[truth, first].astype(float), np.c_[truth, second].astype(float)


ROOT_MEAN_TRUTH = float(np.sqrt(1.5 + 0.25) - np.sqrt(1.5 + 1.0))  # variance of Student's t with 6 degrees is 1.5
F1_TRUTH = 2 * 0.16 / (0.2 + 0.16 + 0.16) - 2 * 0.14 / (0.2 + 0.14 + 0.24)


@pytest.mark.parametrize(
    ("sample", "metric", "truth", "rows"),
    [
        (hits_and_misses, mean, 0.03, 150),
        (hits_and_misses, mean, 0.03, 500),
        (squared_errors, root_mean, ROOT_MEAN_TRUTH, 200),
        (rare_class, f1, F1_TRUTH, 200),
    ],
)
def test_interval_covers_the_true_difference(
    sample: Sample, metric: Callable[[Floats, Floats], Floats], truth: float, rows: int
) -> None:
    trials = 200
    covered = 0
    for seed in range(trials):
        first, second = sample(np.random.default_rng(seed), rows)
        interval = paired_difference(metric, first, second, level=0.9, seed=seed)
        covered += interval.low <= truth <= interval.high
    # 0.9 promised; 200 trials leave a standard error of 0.021, and a percentile interval is a little narrow.
    assert 0.84 <= covered / trials <= 0.96


def test_false_claims_of_superiority_are_as_rare_as_the_level_says() -> None:
    claims = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        kind = random.choice(3, size=200, p=[0.05, 0.05, 0.9])
        first, second = (kind != 1).astype(float)[:, None], (kind != 0).astype(float)[:, None]
        claims += paired_difference(mean, first, second, level=0.9, seed=seed).low > 0
    assert claims / 300 <= 0.08  # 0.05 promised on this side


def test_mean_difference_agrees_with_students_paired_interval() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(1, 1, (4_000, 1)), random.normal(0.9, 1, (4_000, 1))
    interval = paired_difference(mean, first, second, seed=1)
    oracle = stats.ttest_rel(first[:, 0], second[:, 0]).confidence_interval(0.95)
    width = oracle.high - oracle.low
    assert interval.estimate == pytest.approx(float((first - second).mean()))
    assert abs(interval.low - oracle.low) < 0.08 * width
    assert abs(interval.high - oracle.high) < 0.08 * width


def test_interval_agrees_with_scipys_paired_bootstrap_of_f1() -> None:
    first, second = rare_class(np.random.default_rng(5), 300)

    def difference(truth: Floats, one: Floats, two: Floats) -> float:
        return float(f1_score(truth, one) - f1_score(truth, two))

    oracle = stats.bootstrap(
        (first[:, 0], first[:, 1], second[:, 1]),
        difference,
        paired=True,
        vectorized=False,
        n_resamples=600,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    interval = paired_difference(f1, first, second, seed=2)
    width = oracle.high - oracle.low
    assert abs(interval.low - oracle.low) < 0.12 * width
    assert abs(interval.high - oracle.high) < 0.12 * width


def test_pairing_narrows_the_interval() -> None:
    random = np.random.default_rng(0)
    hard = random.normal(0, 3, 500)
    first, second = (hard + random.normal(0, 0.1, 500))[:, None], (hard + random.normal(0.05, 0.1, 500))[:, None]
    paired = paired_difference(mean, first, second, seed=1)
    unpaired = paired_difference(mean, first, second[random.permutation(500)], seed=1)
    assert paired.high - paired.low < 0.1 * (unpaired.high - unpaired.low)


def test_same_seed_gives_the_same_interval_and_another_seed_a_near_one() -> None:
    first, second = hits_and_misses(np.random.default_rng(0), 300)
    one, again, other = (paired_difference(mean, first, second, seed=seed) for seed in (7, 7, 8))
    assert one == again
    assert one != other
    assert one.low == pytest.approx(other.low, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=200), st.integers(0, 2**32 - 1))
def test_swapping_the_predictors_mirrors_the_interval(pairs: list[tuple[int, int]], seed: int) -> None:
    rows = np.array(pairs, dtype=float)
    there = paired_difference(mean, rows[:, :1], rows[:, 1:], seed=seed)
    # The weights fall on the same cells only when the cells stand in the same order, so swap the metric's sign.
    back = paired_difference(lambda columns, weights: -mean(columns, weights), rows[:, :1], rows[:, 1:], seed=seed)
    assert there.low == pytest.approx(-back.high)
    assert there.high == pytest.approx(-back.low)
    assert there.positive_share == pytest.approx(1 - back.positive_share)
    assert there.low <= there.estimate + 1e-12
    assert there.estimate <= there.high + 1e-12


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=80))
def test_collapsing_keeps_every_row(pairs: list[tuple[int, int]]) -> None:
    rows = np.array(pairs, dtype=float)
    cells, counts = collapse(rows)
    rebuilt = np.repeat(cells, counts.astype(int), axis=0)
    assert sorted(map(tuple, rebuilt.tolist())) == sorted(map(tuple, rows.tolist()))


@pytest.mark.parametrize("counts", [np.ones(50), np.array([1.0, 5.0, 40.0])])
def test_weights_have_the_mean_and_variance_of_poisson(counts: Floats) -> None:
    drawn = np.concatenate(list(poisson_weights(counts, 40_000, seed=0)))
    assert drawn.shape == (40_000, len(counts))
    pooled = (drawn / counts).mean(axis=1) if counts[0] == counts[-1] else drawn[:, -1] / counts[-1]
    assert pooled.mean() == pytest.approx(1.0, abs=0.01)
    assert drawn.var(axis=0) == pytest.approx(counts, rel=0.06)


def test_unit_weights_fit_poisson_by_chi_square() -> None:
    drawn = np.concatenate(list(poisson_weights(np.ones(100), 2_000, seed=4))).ravel()
    seen = np.bincount(np.minimum(drawn, 6).astype(int), minlength=7)
    expected = np.append(stats.poisson.pmf(range(6), 1.0), stats.poisson.sf(5, 1.0)) * len(drawn)
    assert stats.chisquare(seen, expected).pvalue > 0.001


def test_weights_come_in_bounded_blocks() -> None:
    blocks = list(poisson_weights(np.ones(300_000), 20, seed=0))
    assert sum(len(block) for block in blocks) == 20
    assert max(block.size for block in blocks) <= CELLS_AT_ONCE


def test_replicates_that_leave_the_statistic_undefined_open_the_interval() -> None:
    def recall(weights: Floats) -> Floats:
        return weights[:, 0] / weights[:, 0]  # rests on one row, which is absent in e**-1 of the replicates

    interval = bootstrap_interval(recall, np.array([1.0, 30.0]))
    assert (interval.low, interval.high) == (-np.inf, np.inf)
    assert interval.undefined / (interval.undefined + interval.replicates) == pytest.approx(np.exp(-1), abs=0.05)


def test_one_row_says_nothing_narrow() -> None:
    interval = paired_difference(mean, np.array([[1.0]]), np.array([[0.0]]))
    assert interval.estimate == 1.0


@pytest.mark.parametrize(
    ("first", "second", "level", "words"),
    [
        (np.zeros((3, 1)), np.zeros((2, 1)), 0.95, "same rows"),
        (np.zeros((0, 1)), np.zeros((0, 1)), 0.95, "no rows"),
        (np.array([[np.nan], [1.0]]), np.zeros((2, 1)), 0.95, "1 of 2 rows"),
        (np.zeros((2, 1)), np.zeros((2, 1)), 95.0, "between 0 and 1"),
    ],
)
def test_bad_input_is_refused_with_the_mend(first: Floats, second: Floats, level: float, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        paired_difference(mean, first, second, level=level)


def areas(columns: Floats, weights: Floats) -> Floats:
    return np.array([roc_auc_score(columns[:, 0], columns[:, 1], sample_weight=line) for line in weights])


def two_scores(seed: int, rows: int, gap: float = 0.6) -> tuple[np.ndarray, Floats, Floats]:
    random = np.random.default_rng(seed)
    truth = random.random(rows) < 0.3
    shared = random.normal(size=rows)
    first = np.round(truth * 1.5 + shared + random.normal(0, 0.5, rows), 1)
    second = np.round(truth * (1.5 - gap) + shared + random.normal(0, 0.5, rows), 1)
    return truth, first, second


def test_delong_areas_equal_scikit_learn_with_ties() -> None:
    truth, first, second = two_scores(0, 200)
    result = delong_difference(truth, first, second)
    assert result.first == pytest.approx(roc_auc_score(truth, first))
    assert result.second == pytest.approx(roc_auc_score(truth, second))


def test_delong_variance_equals_the_double_sum_of_1988() -> None:
    truth, first, second = two_scores(1, 40)
    result = delong_difference(truth, first, second)

    def wins(scores: Floats) -> Floats:
        return np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in scores[~truth]] for x in scores[truth]])

    gap = wins(first) - wins(second)
    variance = gap.mean(axis=1).var(ddof=1) / gap.shape[0] + gap.mean(axis=0).var(ddof=1) / gap.shape[1]
    assert result.error == pytest.approx(np.sqrt(variance))


def test_delong_and_bootstrap_agree() -> None:
    truth, first, second = two_scores(2, 400)
    delong = delong_difference(truth, first, second)
    drawn = [
        float((areas(np.c_[truth, first], line) - areas(np.c_[truth, second], line))[0])
        for line in itertools.islice(
            (
                block[index : index + 1]
                for block in poisson_weights(np.ones(400), 300, 0)
                for index in range(len(block))
            ),
            300,
        )
    ]
    assert np.std(drawn) == pytest.approx(delong.error, rel=0.15)


def test_delong_covers_the_true_difference() -> None:
    truth_gap = _area(1.5) - _area(0.9)
    covered = 0
    for seed in range(300):
        result = delong_difference(*two_scores(seed, 200), level=0.9)
        covered += result.low <= truth_gap <= result.high
    assert 0.85 <= covered / 300 <= 0.95


def _area(gap: float) -> float:
    # Scores are normal with variance 1 + 0.25 in both classes; rounding to one digit moves the area by less than 1e-3.
    return float(stats.norm.cdf(gap / np.sqrt(2 * 1.25)))


def test_delong_without_two_of_each_class_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least two rows of either class"):
        delong_difference(np.array([True, False, False]), np.zeros(3), np.zeros(3))


def test_delong_of_equal_rankings_is_a_point_at_zero() -> None:
    truth, first, _ = two_scores(3, 50)
    result = delong_difference(truth, first, first * 2 + 1)
    assert (result.low, result.high, result.positive_share) == (0.0, 0.0, 0.5)
