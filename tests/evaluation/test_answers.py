"""Labels and answers that cannot be used are refused with what is wrong and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from tidewheel.errors import InvalidInput, UnusableScores
from tidewheel.evaluation.answers import align
from tidewheel.models.scorer import Scores
from tidewheel.models.signature import Task


def shares(*lines: list[float]) -> np.ndarray[Any, Any]:
    return np.array(lines)


@pytest.mark.parametrize(
    "labels",
    [
        ["no", "yes", "no"],
        np.array(["no", "yes", "no"]),
        np.array(["no", "yes", "no"], dtype=object),
        pl.Series(["no", "yes", "no"]),
        pl.Series(["no", "yes", "no"], dtype=pl.Categorical),
    ],
)
def test_labels_of_any_container_are_coded_alike(labels: Any) -> None:
    answers = align(labels, Scores(np.array(["no", "yes", "yes"])), task="binary", classes=["no", "yes"])
    assert answers.truth.tolist() == [0, 1, 0]
    assert answers.predicted.tolist() == [0, 1, 1]


def test_booleans_integers_and_floats_are_the_same_classes() -> None:
    answers = align([1.0, 0.0], Scores(np.array([True, False])), task="binary", classes=[0, 1])
    assert answers.truth.tolist() == answers.predicted.tolist() == [1, 0]


def test_a_label_no_model_knows_is_an_error_of_the_model() -> None:
    answers = align(["a", "new"], Scores(np.array(["a", "b"]), np.eye(2)), task="multiclass", classes=["a", "b"])
    assert answers.classes == ("a", "b", "new")
    assert answers.truth.tolist() == [0, 2]
    assert answers.probabilities is not None
    assert answers.probabilities.tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("own", "labels", "expected"),
    [([1], [0, 1], (0, 1)), ([0], [0, 0], (0, 1)), (["yes"], ["no", "yes"], ("no", "yes"))],
)
def test_a_model_fitted_on_one_class_is_completed_by_the_labels(
    own: list[Any], labels: list[Any], expected: tuple[object, ...]
) -> None:
    answers = align(labels, Scores(np.array(own * 2), np.ones((2, 1))), task="binary", classes=own)
    assert answers.classes == expected
    assert answers.probabilities is not None
    assert answers.probabilities.sum(axis=1).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("truth", "scores", "task", "classes", "words"),
    [
        ([], Scores(np.array([])), "regression", None, "no rows to evaluate"),
        ([1, 0], Scores(np.array([1])), "binary", None, "2 labels came with 1 predictions"),
        (
            [1.0, np.nan],
            Scores(np.array([1.0, 1.0])),
            "regression",
            None,
            r"1 of 2 labels are missing \(first at row 1",
        ),
        ([None, "a"], Scores(np.array(["a", "a"])), "multiclass", ["a"], r"1 of 2 labels are missing \(first at row 0"),
        ([1.0, np.inf], Scores(np.array([1.0, 1.0])), "regression", None, "1 of 2 labels are infinite"),
        (["low", "high"], Scores(np.array([1.0, 1.0])), "regression", None, "not a number"),
        ([0, 2], Scores(np.array([0, 1])), "binary", [0, 1], "2 is not one of 0, 1"),
        (["0", "1"], Scores(np.array([0, 1])), "binary", [0, 1], "'1' is not 1"),
        (["0", "1"], Scores(np.array([0, 1])), "multiclass", [0, 1], "'1' is not 1"),
        ([0, 1, 2], Scores(np.array([0, 1, 1])), "binary", None, "3 classes occur"),
        ([0, 1], Scores(np.array([0, 1]), np.eye(3)[:2]), "multiclass", None, "3 columns of probabilities"),
        ([0, 1], Scores(np.array([0, 1])), "ranking", None, "no task 'ranking'"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    truth: Any, scores: Scores, task: Task, classes: list[Any] | None, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        align(truth, scores, task=task, classes=classes)


@pytest.mark.parametrize(
    ("scores", "task", "words"),
    [
        (Scores(np.array([1.0, np.nan])), "regression", r"1 of 2 predictions are not finite \(first at row 1"),
        (Scores(np.array(["x", "y"])), "regression", "not a number"),
        (Scores(np.array([0, 7])), "binary", "row 1: .*7"),
        (Scores(np.array([0, 1]), shares([0.5, 0.5], [np.nan, 1])), "binary", "not finite"),
        (Scores(np.array([0, 1]), shares([0.5, 0.5], [0.9, 0.9])), "binary", "do not sum to 1"),
        (Scores(np.array([0, 1]), shares([1.5, -0.5], [0.5, 0.5])), "binary", "do not sum to 1"),
        (Scores(np.array([0, 1]), np.ones((2, 3)) / 3), "binary", r"shape \(2, 3\) for 2 rows and 2 classes"),
    ],
)
def test_answers_that_cannot_be_judged_are_refused(scores: Scores, task: Task, words: str) -> None:
    classes = None if task == "regression" else [0, 1]
    with pytest.raises(UnusableScores, match=words):
        align([0, 1], scores, task=task, classes=classes)
