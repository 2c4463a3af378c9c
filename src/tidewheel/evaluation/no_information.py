"""The best answer that looks at no feature: what a first model must beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tidewheel.evaluation.answers import Answers
from tidewheel.evaluation.metrics import Metric, find_metric

_BY_MEDIAN = ("mae", "median_ae", "mape")
_BY_POSITIVES = ("precision", "f1")


def constant_answers(metric: Metric, answers: Answers) -> Answers:
    """Return the answers of the best constant for a metric, chosen in hindsight on the same labels.

    Regression: the mean, or the median for metrics of absolute errors. Classes: the most frequent one with the class
    shares as probabilities; for precision and f1 always the positive one. Chosen on the labels themselves, it is as
    strong as a constant can be. The previous label is no such baseline: it looks at labels that, in service, have
    often not arrived, and on slow series it would refuse every model.
    """
    rows = len(answers.truth)
    if answers.task == "regression":
        value = np.median(answers.truth) if metric.name in _BY_MEDIAN else answers.truth.mean()
        return replace(answers, predicted=np.full(rows, value))
    counts = np.bincount(answers.truth.astype(np.int64), minlength=len(answers.classes))
    shares = np.tile(counts / rows, (rows, 1))
    answer = 1 if metric.name in _BY_POSITIVES else int(counts.argmax())
    return replace(answers, predicted=np.full(rows, float(answer)), probabilities=shares)


def metric_against_constants(metric: Metric) -> Metric:
    """Return the metric to hold against a constant: recall, which a constant wins, gives way to balanced accuracy."""
    return find_metric("balanced_accuracy") if metric.name == "recall" else metric
