"""Compare a candidate with the champion on the same rows: the difference, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from tidewheel.errors import InvalidInput
from tidewheel.evaluation.answers import Answers, Floats, align, as_labels, check_task, universe_of
from tidewheel.evaluation.evaluate import check_rows
from tidewheel.evaluation.metrics import Metric, find_metric
from tidewheel.evaluation.slices import LEAST_ROWS, Slice, cut
from tidewheel.models.scorer import Scores
from tidewheel.models.signature import Task
from tidewheel.stats.bootstrap import paired_difference
from tidewheel.stats.delong import delong_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a candidate does against the champion on the same rows; every difference is positive where it is better."""

    metric: str  # what was measured
    n: int  # rows
    changed: int  # rows that the two answer differently
    candidate: float  # the candidate's metric
    champion: float  # the champion's metric
    difference: float  # how much better the candidate is, in units of the metric, whatever its direction
    low: float  # lower bound of the difference; -inf where the rows do not allow one
    high: float  # upper bound; inf likewise
    level: float  # two-sided coverage of the interval; slices share the doubt (Bonferroni)
    better_share: float  # share of resamples in which the candidate is better, 0 to 1
    method: Literal["bootstrap", "delong"]  # where the interval comes from
    slices: Mapping[str, Comparison] = field(default_factory=dict)  # slice name to its own comparison
    skipped: Mapping[str, str] = field(default_factory=dict)  # slices that cannot be compared, and why


def compare(
    truth: ArrayLike,
    candidate: Scores,
    champion: Scores,
    *,
    task: Task,
    metric: str,
    classes: Sequence[object] | None = None,
    champion_classes: Sequence[object] | None = None,
    rows: pl.DataFrame | None = None,
    slices: Sequence[str] = (),
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Return the difference of one metric between two models on the same labels [n], with its interval.

    Paired Poisson bootstrap; for roc_auc DeLong. `classes` and `champion_classes` (default: the same) are each model's
    classes in the order of its probability columns. Slices by the named columns of `rows` are compared too, their
    intervals widened for their number; a slice of fewer than 30 rows, or where the metric says nothing, is skipped.
    Raises InvalidInput, UnusableScores or NotFound for what cannot be compared.

    >>> new, old = Scores(np.array([1.0, 2.0, 3.0])), Scores(np.array([2.0, 3.0, 4.0]))
    >>> compare([1.0, 2.0, 3.0], new, old, task="regression", metric="mae").difference
    1.0
    """
    check_task(task)
    measure = find_metric(metric, task)
    both = align_both(truth, (candidate, champion), task=task, classes=(classes, champion_classes or classes))
    result = compare_answers(measure, both, rows=rows, slices=slices, seed=seed, level=level)
    if isinstance(result, str):
        raise InvalidInput(
            f"{metric} cannot be compared: {result}.", "Compare on other rows, or by another metric, as accuracy."
        )
    return result


def compare_answers(
    metric: Metric,
    both: tuple[Answers, Answers],
    *,
    rows: pl.DataFrame | None = None,
    slices: Sequence[str] = (),
    seed: int = 0,
    level: float = 0.95,
) -> Comparison | str:
    """Compare answers (candidate, champion) that are coded alike, or say why the metric does not allow it."""
    check_rows(rows, len(both[0].truth))
    parts = cut(rows, slices)
    whole = _compared(metric, both, seed, level)
    if isinstance(whole, str):
        return whole
    shared = 1.0 - (1.0 - level) / max(1, len(parts))
    results = {part.name: _slice(metric, both, part, seed, shared) for part in parts}
    return replace(
        whole,
        slices={name: result for name, result in results.items() if not isinstance(result, str)},
        skipped={name: result for name, result in results.items() if isinstance(result, str)},
    )


def align_both(
    truth: ArrayLike,
    scores: tuple[Scores, Scores],
    *,
    task: Task,
    classes: tuple[Sequence[object] | None, Sequence[object] | None],
) -> tuple[Answers, Answers]:
    """Check labels and the answers of two models, and code them by the classes of both; errors as in `align`."""
    universe = None
    if task != "regression" and classes[0] is not None and classes[1] is not None:
        universe = universe_of(as_labels(truth), classes[0], classes[1], task=task)
    first, second = (
        align(truth, one, task=task, classes=own, universe=universe) for one, own in zip(scores, classes, strict=True)
    )
    if first.classes != second.classes:  # no classes were given and the two predict different ones: code by all
        universe = tuple(dict.fromkeys(first.classes + second.classes))
        first, second = (align(truth, one, task=task, classes=universe) for one in scores)
    return first, second


def _slice(metric: Metric, both: tuple[Answers, Answers], part: Slice, seed: int, level: float) -> Comparison | str:
    if len(part.rows) < LEAST_ROWS:
        return f"{len(part.rows)} rows, fewer than {LEAST_ROWS}"
    return _compared(metric, (both[0].take(part.rows), both[1].take(part.rows)), seed, level)


def _compared(metric: Metric, both: tuple[Answers, Answers], seed: int, level: float) -> Comparison | str:
    first, second = both
    reason = metric.undefined(first) or metric.undefined(second)
    if reason:
        return reason
    ones = int((first.truth == 1).sum())
    if metric.name == "roc_auc" and min(ones, len(first.truth) - ones) < 2:
        return f"{ones} of {len(first.truth)} rows are positive"
    columns = metric.columns(first), metric.columns(second)
    values = _value(metric, columns[0]), _value(metric, columns[1])
    interval = (
        delong_difference(first.truth == 1, columns[0][:, 1], columns[1][:, 1], level=level)
        if metric.name == "roc_auc"
        else paired_difference(_signed(metric), *columns, level=level, seed=seed)
    )
    return Comparison(
        metric=metric.name,
        n=len(first.truth),
        changed=int((first.predicted != second.predicted).sum()),
        candidate=values[0],
        champion=values[1],
        difference=metric.direction * (values[0] - values[1]),
        low=interval.low,
        high=interval.high,
        level=level,
        better_share=interval.positive_share,
        method="delong" if metric.name == "roc_auc" else "bootstrap",
    )


def _value(metric: Metric, columns: Floats) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(metric.value(columns, np.ones((1, len(columns))))[0])


def _signed(metric: Metric) -> Callable[[Floats, Floats], Floats]:
    return lambda columns, weights: metric.direction * metric.value(columns, weights)
