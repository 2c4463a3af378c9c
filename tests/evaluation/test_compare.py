"""Comparisons on the same rows: sign, interval, slices, classes that only one model knows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tidewheel.errors import InvalidInput, NotFound, UnusableScores
from tidewheel.evaluation.compare import Comparison, compare
from tidewheel.evaluation.evaluate import evaluate
from tidewheel.evaluation.metrics import METRICS, better, find_metric
from tidewheel.models.scorer import Scores
from tidewheel.models.signature import Task


def two_models(task: Task, seed: int = 0, rows: int = 400) -> tuple[np.ndarray, Scores, Scores]:
    """Return labels, a good model's answers and a poor one's."""
    random = np.random.default_rng(seed)
    if task == "regression":
        numbers = random.gamma(2, 10, rows) + 1
        return numbers, Scores(numbers + random.normal(0, 2, rows)), Scores(numbers + random.normal(0, 6, rows))
    count = 2 if task == "binary" else 4
    truth = random.integers(0, count, rows)

    def answers(strength: float) -> Scores:
        shares = np.exp(random.normal(0, 1, (rows, count)) + strength * np.eye(count)[truth])
        shares /= shares.sum(axis=1, keepdims=True)
        return Scores(shares.argmax(axis=1), shares)

    return truth, answers(2.5), answers(0.5)


@pytest.mark.parametrize(("metric", "task"), [(one.name, task) for one in METRICS for task in one.tasks])
def test_difference_is_positive_where_the_candidate_is_better(metric: str, task: Task) -> None:
    truth, good, poor = two_models(task)
    count = None if task == "regression" else range(2 if task == "binary" else 4)
    result = compare(truth, good, poor, task=task, metric=metric, classes=count)
    back = compare(truth, poor, good, task=task, metric=metric, classes=count)
    assert 0 < result.low < result.difference < result.high
    assert back.low < back.high < 0
    assert result.better_share > 0.999
    alone = [evaluate(truth, one, task=task, classes=count).metrics[metric] for one in (good, poor)]
    assert (result.candidate, result.champion) == pytest.approx(tuple(alone))
    assert result.difference == pytest.approx(better(metric) * (alone[0] - alone[1]))
    assert (result.method == "delong") == (metric == "roc_auc")


def test_a_model_against_itself_is_no_difference_at_all() -> None:
    truth, good, _ = two_models("multiclass")
    result = compare(truth, good, good, task="multiclass", metric="macro_f1")
    assert (result.low, result.difference, result.high, result.changed) == (0, 0, 0, 0)
    assert result.better_share == 0.5


def test_a_wider_level_gives_a_wider_interval() -> None:
    truth, good, poor = two_models("regression")
    narrow, wide = (compare(truth, good, poor, task="regression", metric="mae", level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_slices_find_where_the_candidate_is_worse() -> None:
    truth, good, poor = two_models("regression")
    season = np.arange(400) % 4
    mixed = Scores(np.where(season == 2, poor.prediction, good.prediction))
    old = Scores(np.where(season == 2, good.prediction, poor.prediction))
    rows = pl.DataFrame({"season": season, "rare": ["x"] * 390 + ["y"] * 10})
    result = compare(truth, mixed, old, task="regression", metric="rmse", rows=rows, slices=["season", "rare"])
    assert result.low > 0
    assert result.slices["season=2"].high < 0
    assert [name for name, part in result.slices.items() if part.high < 0] == ["season=2"]
    assert result.skipped == {"rare=y": "10 rows, fewer than 30"}


def test_intervals_of_slices_share_the_doubt() -> None:
    truth, good, poor = two_models("regression")
    rows = pl.DataFrame({"all": ["x"] * 400, "half": ["a", "b"] * 200})
    result = compare(truth, good, poor, task="regression", metric="mae", rows=rows, slices=["all", "half"])
    assert result.slices["all=x"].level == pytest.approx(1 - 0.05 / 3)
    assert result.slices["all=x"].low < result.low


def test_a_slice_of_one_class_is_skipped_with_the_reason() -> None:
    truth, good, poor = two_models("binary")
    rows = pl.DataFrame({"truth": truth})
    result = compare(truth, good, poor, task="binary", metric="roc_auc", rows=rows, slices=["truth"])
    assert result.skipped["truth=0"] == "only the class 0 occurs in 190 rows".replace("190", str((truth == 0).sum()))


def test_models_of_different_classes_are_coded_alike() -> None:
    truth = np.array(["a", "b", "c"] * 20)
    new = Scores(truth, np.tile(np.eye(3), (20, 1)))
    old = Scores(np.array(["a", "b", "b"] * 20), np.tile(np.array([[1.0, 0], [0, 1], [0, 1]]), (20, 1)))
    result = compare(
        truth, new, old, task="multiclass", metric="log_loss", classes=["a", "b", "c"], champion_classes=["a", "b"]
    )
    assert result.candidate == pytest.approx(0, abs=1e-6)
    assert result.champion == pytest.approx(-np.log(1e-7) / 3)  # the class it does not know has probability 0


def test_comparison_is_repeatable() -> None:
    truth, good, poor = two_models("binary", rows=100)

    def once(seed: int) -> Comparison:
        return compare(truth, good, poor, task="binary", metric="f1", seed=seed)

    assert once(1) == once(1)
    assert once(1) != once(2)


@pytest.mark.parametrize(
    ("metric", "error", "words"),
    [("rmsee", NotFound, "'rmse'"), ("accuracy", InvalidInput, "does not measure a regression task")],
)
def test_metrics_that_do_not_fit_are_refused(metric: str, error: type[Exception], words: str) -> None:
    truth, good, poor = two_models("regression")
    with pytest.raises(error, match=words):
        compare(truth, good, poor, task="regression", metric=metric)


def test_a_label_of_one_class_cannot_be_ranked() -> None:
    scores = Scores(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    with pytest.raises(InvalidInput, match=r"only the class 1 occurs in 2 rows.*\n.*accuracy"):
        compare([1, 1], scores, scores, task="binary", metric="roc_auc")


def test_one_positive_row_is_too_few_for_delong() -> None:
    truth = np.array([1] + [0] * 40)
    scores = Scores(truth, np.column_stack([1 - truth, truth]).astype(float))
    with pytest.raises(InvalidInput, match="1 of 41 rows are positive"):
        compare(truth, scores, scores, task="binary", metric="roc_auc")


def test_answers_that_are_not_numbers_are_refused() -> None:
    truth, good, _ = two_models("regression")
    with pytest.raises(UnusableScores, match="400 of 400 predictions are not finite"):
        compare(truth, good, Scores(np.full(400, np.nan)), task="regression", metric="rmse")


def test_undefined_everywhere_says_so() -> None:
    truth, good, poor = two_models("binary")
    silent = Scores(good.prediction)
    with pytest.raises(InvalidInput, match="the model gives no probabilities"):
        compare(truth, silent, poor, task="binary", metric=find_metric("brier").name)
