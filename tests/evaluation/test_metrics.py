"""Every metric equals scikit-learn's, plain and weighted, and says where it says nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.evaluation.answers import Answers, Floats, align
from tidewheel.evaluation.metrics import METRICS, better, find_metric, measure, metrics_of
from tidewheel.models.scorer import Scores
from tidewheel.models.signature import Task

Oracle = Callable[[Answers, Floats], float]


def _labels(answers: Answers) -> tuple[Floats, Floats]:
    return answers.truth, answers.predicted


def _shares(answers: Answers) -> Floats:
    if answers.probabilities is None:
        pytest.fail("the oracle needs probabilities")
    return answers.probabilities


ORACLES: dict[str, Oracle] = {
    "accuracy": lambda a, w: oracle.accuracy_score(*_labels(a), sample_weight=w),
    "balanced_accuracy": lambda a, w: oracle.balanced_accuracy_score(*_labels(a), sample_weight=w),
    "macro_f1": lambda a, w: oracle.f1_score(*_labels(a), sample_weight=w, average="macro", zero_division=0),
    "roc_auc": lambda a, w: oracle.roc_auc_score(a.truth, _shares(a)[:, 1], sample_weight=w),
    "log_loss": lambda a, w: oracle.log_loss(a.truth, _shares(a), sample_weight=w, labels=range(len(a.classes))),
    "brier": lambda a, w: oracle.brier_score_loss(a.truth, _shares(a)[:, 1], sample_weight=w, labels=[0, 1]),
    "precision": lambda a, w: oracle.precision_score(*_labels(a), sample_weight=w, zero_division=0),
    "recall": lambda a, w: oracle.recall_score(*_labels(a), sample_weight=w, zero_division=0),
    "f1": lambda a, w: oracle.f1_score(*_labels(a), sample_weight=w, zero_division=0),
    "rmse": lambda a, w: oracle.root_mean_squared_error(*_labels(a), sample_weight=w),
    "mae": lambda a, w: oracle.mean_absolute_error(*_labels(a), sample_weight=w),
    "r2": lambda a, w: oracle.r2_score(*_labels(a), sample_weight=w),
    "median_ae": lambda a, w: oracle.median_absolute_error(*_labels(a), sample_weight=w),
    "mape": lambda a, w: oracle.mean_absolute_percentage_error(*_labels(a), sample_weight=w),
}


def random_answers(task: Task, seed: int, rows: int, classes: int = 4) -> Answers:
    random = np.random.default_rng(seed)
    if task == "regression":
        truth = np.round(random.gamma(2.0, 10.0, rows) + 1.0, 1)
        return align(truth, Scores(truth + random.normal(0, 5, rows)), task=task)
    count = 2 if task == "binary" else classes
    labels = random.integers(0, count, rows)
    # Rounded, so that scores tie; never below the resolution that log loss clips at.
    shares = np.round(random.dirichlet(np.ones(count), rows), 1) + 0.05
    shares /= shares.sum(axis=1, keepdims=True)
    return align(labels, Scores(shares.argmax(axis=1), shares), task=task, classes=range(count))


CASES = [(metric.name, task) for metric in METRICS for task in metric.tasks]


def test_every_metric_has_an_oracle() -> None:
    assert {metric.name for metric in METRICS} == set(ORACLES)


@pytest.mark.parametrize(("name", "task"), CASES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 120))
def test_metric_equals_scikit_learn(name: str, task: Task, seed: int, rows: int) -> None:
    answers = random_answers(task, seed, rows)
    metric = find_metric(name, task)
    weights = np.random.default_rng(seed + 1).integers(1, 5, rows).astype(float)
    assume(not metric.undefined(answers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of absent classes
        plain, weighted = ORACLES[name](answers, np.ones(rows)), ORACLES[name](answers, weights)
    assert measure(metric, answers) == pytest.approx(plain, rel=1e-9, abs=1e-12)
    assert measure(metric, answers, weights) == pytest.approx(weighted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_whole_weights_equal_repeated_rows(name: str, task: Task) -> None:
    answers = random_answers(task, 11, 60)
    times = np.random.default_rng(12).integers(0, 4, 60)
    metric = find_metric(name, task)
    repeated = answers.take(np.repeat(np.arange(60), times))
    assert measure(metric, answers, times.astype(float)) == pytest.approx(measure(metric, repeated))


@pytest.mark.parametrize(("name", "task"), CASES)
def test_many_weightings_at_once_equal_one_at_a_time(name: str, task: Task) -> None:
    answers = random_answers(task, 21, 80)
    weights = np.random.default_rng(22).integers(0, 3, (7, 80)).astype(float)
    metric = find_metric(name, task)
    together = metric.value(metric.columns(answers), weights)
    assert together == pytest.approx([measure(metric, answers, line) for line in weights])


@pytest.mark.parametrize(("name", "task"), CASES)
def test_direction_says_what_perfect_answers_gain(name: str, task: Task) -> None:
    answers = random_answers(task, 31, 60)
    shares: Any = None if task == "regression" else np.eye(len(answers.classes))[answers.truth.astype(int)]
    perfect = align(
        answers.truth, Scores(answers.truth, shares), task=task, classes=range(len(answers.classes)) or None
    )
    metric = find_metric(name, task)
    assert better(name) * (measure(metric, perfect) - measure(metric, answers)) > 0


def test_large_labels_keep_the_digits_of_r2() -> None:
    random = np.random.default_rng(0)
    truth = 1e9 + random.normal(0, 1, 200)
    scores = Scores(truth + random.normal(0, 0.5, 200))
    answers = align(truth, scores, task="regression")
    assert measure(find_metric("r2"), answers) == pytest.approx(oracle.r2_score(truth, scores.prediction), rel=1e-6)


def test_a_certain_and_wrong_answer_costs_a_finite_log_loss() -> None:
    answers = align([0, 1], Scores(np.array([1, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])), task="binary", classes=[0, 1])
    assert measure(find_metric("log_loss"), answers) == pytest.approx(-np.log(1e-7) / 2)


@pytest.mark.parametrize(
    ("truth", "task", "names"),
    [
        ([0, 0, 0], "binary", {"roc_auc", "recall", "precision", "f1"}),
        ([1, 1, 1], "binary", {"roc_auc"}),
        ([2.0, 2.0, 2.0], "regression", {"r2"}),
        ([0.0, 1.0, 2.0], "regression", {"mape"}),
    ],
)
def test_a_metric_that_says_nothing_gives_its_reason(truth: list[float], task: Task, names: set[str]) -> None:
    shares = None if task == "regression" else np.tile([0.6, 0.4], (3, 1))
    answers = align(truth, Scores(np.array([0, 1, 0]), shares), task=task)
    silent = {metric.name for metric in metrics_of(task) if metric.undefined(answers)}
    assert silent == names
    with pytest.raises(InvalidInput, match="cannot be computed"):
        measure(find_metric(names.pop()), answers)


def test_metrics_of_probabilities_say_so_when_there_are_none() -> None:
    answers = align([0, 1], Scores(np.array([0, 1])), task="binary")
    for name in ("roc_auc", "log_loss", "brier"):
        assert find_metric(name).undefined(answers) == "the model gives no probabilities"


@pytest.mark.parametrize(
    ("name", "task", "hint"),
    [("rmsee", None, "'rmse'"), ("auc", "binary", "roc_auc"), ("acuracy", "multiclass", "'accuracy'")],
)
def test_unknown_metric_is_answered_with_near_names(name: str, task: Task | None, hint: str) -> None:
    with pytest.raises(NotFound, match=hint):
        find_metric(name, task)


def test_metric_of_another_task_is_answered_with_those_that_fit() -> None:
    with pytest.raises(InvalidInput, match="rmse, mae, r2"):
        find_metric("accuracy", "regression")
