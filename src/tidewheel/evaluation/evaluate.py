"""Score a model's answers by every metric of its task, as a whole and per slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from tidewheel.errors import InvalidInput
from tidewheel.evaluation.answers import Answers, Floats, align
from tidewheel.evaluation.metrics import measure, metrics_of
from tidewheel.evaluation.slices import LEAST_ROWS, cut
from tidewheel.models.scorer import Scores
from tidewheel.models.signature import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model is worth on some rows."""

    n: int  # labelled rows
    metrics: Mapping[str, float]  # every metric that is defined on them
    undefined: Mapping[str, str]  # metric to the reason why it is not
    slices: Mapping[str, Evaluation] = field(default_factory=dict)  # slice name to its own evaluation
    skipped: Mapping[str, int] = field(default_factory=dict)  # slices with too few rows, and how many they have


def evaluate(
    truth: ArrayLike,
    scores: Scores,
    *,
    task: Task,
    classes: Sequence[object] | None = None,
    rows: pl.DataFrame | None = None,
    slices: Sequence[str] = (),
    weights: ArrayLike | None = None,
) -> Evaluation:
    """Return every metric of the task for labels and answers [n], and for each slice of `rows` by the named columns.

    `classes` are the model's classes in the order of its probability columns. `weights` [n] are not negative.
    Slices of fewer than 30 rows are skipped and listed. A metric that says nothing there (the area under the curve
    where one class occurs) is left out with the reason.
    Raises InvalidInput, UnusableScores or NotFound for labels, answers and columns that cannot be used.

    >>> evaluate([1.0, 4.0], Scores(np.array([2.0, 4.0])), task="regression").metrics["mae"]
    0.5
    """
    answers = align(truth, scores, task=task, classes=classes)
    check_rows(rows, len(answers.truth))
    heavy = None if weights is None else _checked_weights(weights, len(answers.truth))
    parts = cut(rows, slices)
    return replace(
        _measured(answers, heavy),
        slices={
            part.name: _measured(answers.take(part.rows), None if heavy is None else heavy[part.rows])
            for part in parts
            if len(part.rows) >= LEAST_ROWS
        },
        skipped={part.name: len(part.rows) for part in parts if len(part.rows) < LEAST_ROWS},
    )


def check_rows(rows: pl.DataFrame | None, labels: int) -> None:
    """Raise InvalidInput when rows to slice are not the rows that were labelled."""
    if rows is not None and rows.height != labels:
        raise InvalidInput(f"{rows.height} rows came with {labels} labels.", "Slice the same rows that were scored.")


def _measured(answers: Answers, weights: Floats | None) -> Evaluation:
    undefined: dict[str, str] = {}
    metrics: dict[str, float] = {}
    for metric in metrics_of(answers.task):
        reason = metric.undefined(answers)
        if reason:
            undefined[metric.name] = reason
        else:
            metrics[metric.name] = measure(metric, answers, weights)
    return Evaluation(n=len(answers.truth), metrics=metrics, undefined=undefined)


def _checked_weights(weights: ArrayLike, labels: int) -> Floats:
    heavy = np.asarray(weights, dtype=np.float64).reshape(-1)
    if len(heavy) != labels:
        raise InvalidInput(f"{len(heavy)} weights came with {labels} labels.", "Give one weight per row.")
    if not np.isfinite(heavy).all() or (heavy < 0).any() or not heavy.any():
        raise InvalidInput("Weights must be finite, not negative, and not all zero.", "Mend the weights.")
    return heavy
