"""Running scores equal scikit-learn's at every prefix; the previous label is a score like any other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, root_mean_squared_error

from tidewheel.demo.score import RunningScore, no_change, same_class


def test_accuracy_is_scikit_learns_after_every_row() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 4, 60).tolist(), rng.integers(0, 4, 60).tolist()
    score = RunningScore("accuracy", recent=10)
    for row, pair in enumerate(zip(truth, guess, strict=True), start=1):
        score.add(*pair)
        assert score.value == pytest.approx(accuracy_score(truth[:row], guess[:row]))
        low = max(row - 10, 0)
        assert score.recent_value == pytest.approx(accuracy_score(truth[low:row], guess[low:row]))


def test_rmse_is_scikit_learns_after_every_row() -> None:
    rng = np.random.default_rng(1)
    truth, guess = rng.normal(size=40), rng.normal(size=40)
    score = RunningScore("rmse")
    for row in range(1, 41):
        score.add(truth[row - 1], guess[row - 1])
        assert score.value == pytest.approx(root_mean_squared_error(truth[:row], guess[:row]))


def test_no_answer_counts_as_wrong() -> None:
    score = RunningScore("accuracy")
    score.add("a", None)
    assert score.value == 0.0
    assert math.isnan(RunningScore("accuracy").value)


@pytest.mark.parametrize(
    ("truth", "guess", "same"), [(1, "1", True), (1, 1, True), ("b", "a", False), (0, None, False)]
)
def test_labels_are_compared_through_json(truth: object, guess: object, same: bool) -> None:
    assert same_class(truth, guess) is same


def test_the_previous_label_is_scored_from_the_second_on() -> None:
    assert no_change([1, 1, 2, 2, 2], "accuracy") == 0.75
    assert no_change([1.0, 3.0, 3.0], "rmse") == pytest.approx(math.sqrt(2))
