"""The metrics, each defined once: over weighted rows, many weightings at a time.

A metric says which columns it needs of each row and turns columns and weights [replicates, rows] into values
[replicates]. A plain evaluation is one weighting of ones; a weighted one, a slice and a bootstrap use the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.evaluation.answers import Answers, Floats
from tidewheel.models.signature import Task
from tidewheel.stats.bootstrap import WeightedMetric

LEAST_PROBABILITY = 1e-7  # log loss of a certain and wrong answer stays finite: the resolution of a 32-bit float


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measure of how good answers are."""

    name: str  # as users write it
    tasks: tuple[Task, ...]  # tasks it measures
    direction: int  # +1 when more is better, -1 when less is
    columns: Callable[[Answers], Floats]  # answers to [rows, k]
    value: WeightedMetric  # columns [rows, k] and weights [replicates, rows] to [replicates]
    undefined: Callable[[Answers], str | None]  # why it cannot be computed on these answers, or None


def metrics_of(task: Task) -> tuple[Metric, ...]:
    """Return the metrics that measure a task, the usual one first."""
    return tuple(metric for metric in METRICS if task in metric.tasks)


def find_metric(name: str, task: Task | None = None) -> Metric:
    """Return a metric by name.

    Raises NotFound with near names, InvalidInput when it does not measure the task.
    """
    known = {metric.name: metric for metric in METRICS}
    if name not in known:
        fitting = metrics_of(task) if task else METRICS
        raise NotFound("metric", name, [metric.name for metric in fitting])
    metric = known[name]
    if task and task not in metric.tasks:
        raise InvalidInput(
            f"{name} does not measure a {task} task.",
            f"Metrics of a {task} task: {', '.join(one.name for one in metrics_of(task))}.",
        )
    return metric


def better(name: str) -> int:
    """Return +1 when a larger value of the metric is better, -1 when a smaller one is.

    >>> better("accuracy"), better("rmse")
    (1, -1)
    """
    return find_metric(name).direction


def measure(metric: Metric, answers: Answers, weights: Floats | None = None) -> float:
    """Return a metric of answers, rows weighted by `weights` [rows] (default: all alike).

    Raises InvalidInput where the metric is undefined on them.
    """
    reason = metric.undefined(answers)
    if reason:
        raise InvalidInput(
            f"{metric.name} cannot be computed: {reason}.", "Evaluate other rows, or judge by another metric."
        )
    lines = np.ones((1, len(answers.truth))) if weights is None else weights[np.newaxis, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(metric.value(metric.columns(answers), lines)[0])


# --- columns: what a metric needs of each row ---------------------------------------------------------------------


def _hits(answers: Answers) -> Floats:
    hits: Floats = (answers.truth == answers.predicted).astype(np.float64)
    return hits[:, np.newaxis]


def _codes(answers: Answers) -> Floats:
    return np.column_stack([answers.truth, answers.predicted])


def _positives(answers: Answers) -> Floats:
    return np.column_stack([answers.truth == 1, answers.predicted == 1]).astype(np.float64)


def _scored_truth(answers: Answers) -> Floats:
    return np.column_stack([answers.truth == 1, _given(answers)[:, 1]]).astype(np.float64)


def _squared_share(answers: Answers) -> Floats:
    square: Floats = (_given(answers)[:, 1] - (answers.truth == 1)) ** 2
    return square[:, np.newaxis]


def _surprise(answers: Answers) -> Floats:
    shares = _given(answers)
    own = shares[np.arange(len(shares)), answers.truth.astype(np.int64)]
    return -np.log(np.clip(own, LEAST_PROBABILITY, 1.0))[:, np.newaxis]


def _squared_error(answers: Answers) -> Floats:
    square: Floats = (answers.predicted - answers.truth) ** 2
    return square[:, np.newaxis]


def _absolute_error(answers: Answers) -> Floats:
    return np.abs(answers.predicted - answers.truth)[:, np.newaxis]


def _relative_error(answers: Answers) -> Floats:
    return np.abs((answers.predicted - answers.truth) / answers.truth)[:, np.newaxis]


def _centred(answers: Answers) -> Floats:
    # Centred first: a sum of squares of large labels would lose the digits that matter.
    return np.column_stack([answers.truth - answers.truth.mean(), (answers.predicted - answers.truth) ** 2])


def _given(answers: Answers) -> Floats:
    if answers.probabilities is None:
        raise InvalidInput("The model gives no probabilities.", "Judge by a metric of predictions, as accuracy.")
    return answers.probabilities


# --- values: columns [rows, k] and weights [replicates, rows] to [replicates] --------------------------------------


def _mean(columns: Floats, weights: Floats) -> Floats:
    average: Floats = weights @ columns[:, 0] / weights.sum(axis=1)
    return average


def _root_mean(columns: Floats, weights: Floats) -> Floats:
    root: Floats = np.sqrt(_mean(columns, weights))
    return root


def _median(columns: Floats, weights: Floats) -> Floats:
    order = np.argsort(columns[:, 0], kind="stable")
    values, reached = columns[order, 0], np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2
    lower, upper = values[np.argmax(reached >= half, axis=1)], values[np.argmax(reached > half, axis=1)]
    middle: Floats = np.where(half[:, 0] > 0, (lower + upper) / 2, np.nan)
    return middle


def _explained(columns: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1)
    centre = weights @ columns[:, 0] / total
    spread = weights @ columns[:, 0] ** 2 - total * centre**2
    share: Floats = 1.0 - weights @ columns[:, 1] / np.where(spread > 0, spread, np.nan)
    return share


def _precision(columns: Floats, weights: Floats) -> Floats:
    claimed = weights @ columns[:, 1]
    found = weights @ (columns[:, 0] * columns[:, 1])
    return np.where(claimed > 0, found / np.where(claimed > 0, claimed, 1.0), 0.0)


def _recall(columns: Floats, weights: Floats) -> Floats:
    found: Floats = weights @ (columns[:, 0] * columns[:, 1]) / (weights @ columns[:, 0])
    return found


def _f1(columns: Floats, weights: Floats) -> Floats:
    share: Floats = 2 * (weights @ (columns[:, 0] * columns[:, 1])) / (weights @ columns.sum(axis=1))
    return share


def _balanced(columns: Floats, weights: Floats) -> Floats:
    hits, truth, _ = _by_class(columns, weights)
    return _mean_where(hits, truth)


def _macro_f1(columns: Floats, weights: Floats) -> Floats:
    hits, truth, predicted = _by_class(columns, weights)
    return _mean_where(2 * hits, truth + predicted)


def _mean_where(part: Floats, whole: Floats) -> Floats:
    # Mean over the classes that occur under these weights; a class that does not has no say.
    there = whole > 0
    shares = np.where(there, part / np.where(there, whole, 1.0), 0.0)
    average: Floats = shares.sum(axis=1) / there.sum(axis=1)
    return average


def _by_class(columns: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    truth, predicted = columns[:, 0].astype(np.int64), columns[:, 1].astype(np.int64)
    shape = (len(columns), int(columns.max()) + 1)

    def one_hot(codes: np.ndarray, marks: Floats) -> Floats:
        matrix = sparse.csr_array((marks, (np.arange(shape[0]), codes)), shape=shape)
        summed: Floats = weights @ matrix
        return summed

    ones = np.ones(shape[0])
    return one_hot(truth, (truth == predicted).astype(np.float64)), one_hot(truth, ones), one_hot(predicted, ones)


def _area(columns: Floats, weights: Floats) -> Floats:
    # Share of (positive, negative) pairs ranked right, ties half: the Mann-Whitney statistic over weights.
    scores, place = np.unique(columns[:, 1], return_inverse=True)
    starts = np.zeros(len(scores), dtype=np.int64)
    np.cumsum(np.bincount(place)[:-1], out=starts[1:])
    order = np.argsort(place, kind="stable")
    positive = columns[order, 0]
    ones = np.add.reduceat(weights[:, order] * positive, starts, axis=1)
    zeros = np.add.reduceat(weights[:, order] * (1 - positive), starts, axis=1)
    below = np.cumsum(zeros, axis=1) - zeros / 2
    area: Floats = (ones * below).sum(axis=1) / (ones.sum(axis=1) * zeros.sum(axis=1))
    return area


# --- where a metric says nothing ----------------------------------------------------------------------------------


def _always(answers: Answers) -> str | None:
    del answers
    return None


def _without_probabilities(answers: Answers) -> str | None:
    return "the model gives no probabilities" if answers.probabilities is None else None


def _one_class_or_no_probabilities(answers: Answers) -> str | None:
    distinct = np.unique(answers.truth)
    if len(distinct) == 1:
        return f"only the class {answers.classes[int(distinct[0])]!r} occurs in {len(answers.truth)} rows"
    return _without_probabilities(answers)


def _no_positive(answers: Answers) -> str | None:
    if not (answers.truth == 1).any():
        return f"the positive class does not occur in {len(answers.truth)} rows"
    return None


def _constant(answers: Answers) -> str | None:
    if np.ptp(answers.truth) == 0:
        return f"all {len(answers.truth)} labels are {answers.truth[0]:g}"
    return None


def _zero_labels(answers: Answers) -> str | None:
    zeros = int((answers.truth == 0).sum())
    return f"{zeros} of {len(answers.truth)} labels are 0" if zeros else None


def _metric(
    name: str,
    tasks: Sequence[Task],
    direction: int,
    columns: Callable[[Answers], Floats],
    value: WeightedMetric,
    *,
    undefined: Callable[[Answers], str | None] = _always,
) -> Metric:
    return Metric(name=name, tasks=tuple(tasks), direction=direction, columns=columns, value=value, undefined=undefined)


_BINARY: tuple[Task, ...] = ("binary",)
_CLASSES: tuple[Task, ...] = ("binary", "multiclass")
_MULTI: tuple[Task, ...] = ("multiclass",)
_NUMBER: tuple[Task, ...] = ("regression",)

METRICS: tuple[Metric, ...] = (
    _metric("accuracy", _CLASSES, +1, _hits, _mean),
    _metric("balanced_accuracy", _CLASSES, +1, _codes, _balanced),
    _metric("macro_f1", _MULTI, +1, _codes, _macro_f1),
    _metric("roc_auc", _BINARY, +1, _scored_truth, _area, undefined=_one_class_or_no_probabilities),
    _metric("log_loss", _CLASSES, -1, _surprise, _mean, undefined=_without_probabilities),
    _metric("brier", _BINARY, -1, _squared_share, _mean, undefined=_without_probabilities),
    _metric("precision", _BINARY, +1, _positives, _precision, undefined=_no_positive),
    _metric("recall", _BINARY, +1, _positives, _recall, undefined=_no_positive),
    _metric("f1", _BINARY, +1, _positives, _f1, undefined=_no_positive),
    _metric("rmse", _NUMBER, -1, _squared_error, _root_mean),
    _metric("mae", _NUMBER, -1, _absolute_error, _mean),
    _metric("r2", _NUMBER, +1, _centred, _explained, undefined=_constant),
    _metric("median_ae", _NUMBER, -1, _absolute_error, _median),
    _metric("mape", _NUMBER, -1, _relative_error, _mean, undefined=_zero_labels),
)
