"""The loss of one row under a metric: what can be added up row by row, bet on and tested.

A metric that is no mean over rows is watched through the loss that stands behind it: F1, precision, recall and the
balanced ones through the error, ROC AUC through the Brier score, R2 through the squared error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tidewheel.errors import NotFound
from tidewheel.models.signature import Task

Floats: TypeAlias = NDArray[np.float64]
Loss = Literal["error", "brier", "surprise", "squared", "absolute", "relative"]

LEAST_PROBABILITY = 1e-3  # surprise of a certain and wrong answer: 6.9, so that one row cannot decide
_LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "accuracy": "error",
        "balanced_accuracy": "error",
        "macro_f1": "error",
        "precision": "error",
        "recall": "error",
        "f1": "error",
        "roc_auc": "brier",
        "brier": "brier",
        "log_loss": "surprise",
        "rmse": "squared",
        "r2": "squared",
        "mae": "absolute",
        "median_ae": "absolute",
        "mape": "relative",
    }
)
# The metric of a registry version that holds the mean of each loss.
_MEAN_OF: Mapping[Loss, str] = MappingProxyType(
    {
        "error": "accuracy",
        "brier": "brier",
        "surprise": "log_loss",
        "squared": "rmse",
        "absolute": "mae",
        "relative": "mape",
    }
)
_SHARES: frozenset[Loss] = frozenset({"error", "brier"})  # losses from 0 to 1, whose tolerance is in points
_NEED_PROBABILITIES: frozenset[Loss] = frozenset({"brier", "surprise"})
_CEILINGS: Mapping[Loss, float] = MappingProxyType({"squared": 25.0, "absolute": 8.0, "relative": 8.0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What one arm said to some rows, and the truth; all of equal length."""

    truth: Sequence[Any]  # labels as they arrived
    predicted: Sequence[Any]  # class labels or numbers
    probability: Sequence[Sequence[float] | None]  # [row][class]; None where the arm gave none
    classes: Sequence[Any]  # class labels in the order of the probabilities; empty for regression


def loss_of(metric: str) -> Loss:
    """Return the loss behind a metric; NotFound suggests near names.

    >>> loss_of("rmse"), loss_of("f1")
    ('squared', 'error')
    """
    if metric not in _LOSSES:
        raise NotFound("metric", metric, _LOSSES)
    return _LOSSES[metric]


def usual_metric(task: Task) -> str:
    """Return the metric that is watched unless another one is named."""
    return "rmse" if task == "regression" else "accuracy"


def fitting_loss(metric: str, *, probabilities: bool, classes: int) -> Loss:
    """Return the loss of a metric that a model can be judged by: the error where it gives no fitting probabilities."""
    loss = loss_of(metric)
    if (loss in _NEED_PROBABILITIES and not probabilities) or (loss == "brier" and classes != 2):
        return "error"
    return loss


def row_losses(loss: Loss, answered: Answered) -> Floats:
    """Return one loss per row; not-a-number where a label or an answer cannot be used.

    >>> row_losses("error", Answered(truth=["a", 1], predicted=["b", 1.0], probability=[None, None], classes=[]))
    array([1., 0.])
    """
    if loss == "error":
        pairs = zip(answered.truth, answered.predicted, strict=True)
        return np.array([float(label_text(truth) != label_text(said)) for truth, said in pairs], dtype=np.float64)
    if loss in _NEED_PROBABILITIES:
        return _probability_losses(loss, answered)
    truth, said = _numbers(answered.truth), _numbers(answered.predicted)
    gaps = np.abs(said - truth)
    if loss == "squared":
        return gaps**2
    if loss == "absolute":
        return gaps
    return np.where(truth == 0, np.nan, gaps / np.where(truth == 0, 1.0, np.abs(truth)))


def mean_loss(loss: Loss, metrics: Mapping[str, float]) -> float | None:
    """Return the mean loss that a version's recorded metrics imply; None when they do not hold it.

    >>> mean_loss("squared", {"rmse": 3.0}), round(mean_loss("error", {"accuracy": 0.9}), 3)
    (9.0, 0.1)
    """
    value = metrics.get(_MEAN_OF[loss])
    if value is None or not math.isfinite(value):
        return None
    if loss == "error":
        return 1.0 - value
    return value**2 if loss == "squared" else float(value)


def as_metric(loss: Loss, mean: float) -> tuple[str, float]:
    """Return the metric that a mean loss is shown as: its name and its value.

    >>> as_metric("squared", 9.0), as_metric("error", 0.25)
    (('rmse', 3.0), ('accuracy', 0.75))
    """
    if loss == "error":
        return "accuracy", 1.0 - mean
    return _MEAN_OF[loss], math.sqrt(mean) if loss == "squared" else mean


def tolerated_loss(loss: Loss, reference: float, worse_by: float) -> float:
    """Return the greatest mean loss that is no decay.

    For losses from 0 to 1 `worse_by` is added in points; for others it is a share of the reference, and for the
    squared error a share of its root.
    """
    if loss in _SHARES:
        return min(max(reference + worse_by, 1e-6), 0.99)
    reference = max(reference, 1e-12)
    return reference * (1 + worse_by) ** (2 if loss == "squared" else 1)


def loss_ceiling(loss: Loss, tolerated: float) -> float:
    """Return where a loss is cut off, so that no single row can raise an alarm: 1, or some times the tolerated one."""
    if loss in _SHARES:
        return 1.0
    if loss == "surprise":
        return max(-math.log(LEAST_PROBABILITY), 2 * tolerated)
    return _CEILINGS[loss] * tolerated


def label_text(value: Any) -> str:
    """Return the text under which labels and answers are the same class, whatever type JSON made of them.

    >>> label_text(3.0) == label_text(3) == label_text("3"), label_text(True) == label_text(1)
    (True, True)
    """
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _probability_losses(loss: Loss, answered: Answered) -> Floats:
    places = {label_text(label): place for place, label in enumerate(answered.classes)}
    losses = np.full(len(answered.truth), np.nan)
    for row, (truth, shares) in enumerate(zip(answered.truth, answered.probability, strict=True)):
        if shares is None or len(shares) != len(places):
            continue
        place = places.get(label_text(truth))
        if loss == "brier":
            losses[row] = (shares[1] - (place == 1)) ** 2
        else:
            losses[row] = -math.log(max(shares[place] if place is not None else 0.0, LEAST_PROBABILITY))
    return losses


def _numbers(values: Sequence[Any]) -> Floats:
    found = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if isinstance(value, bool | int | float | np.number) and math.isfinite(value):
            found[row] = float(value)
    return found
