"""Labels and a model's answers, checked and brought to one coding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidewheel.errors import InvalidInput, UnusableScores
from tidewheel.models.scorer import Scores
from tidewheel.models.signature import Task

Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[Any]

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
SUM_TOLERANCE = 1e-3  # probabilities come as 32-bit floats over many classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Labels and answers of the same rows, ready for any metric."""

    task: Task  # what is predicted
    truth: Floats  # [n] numbers, or positions in `classes`
    predicted: Floats  # [n] in the same coding
    probabilities: Floats | None  # [n, classes], None when the model gives none or in regression
    classes: tuple[object, ...]  # the second one is the positive class of a binary task; empty in regression

    def take(self, rows: NDArray[np.int64]) -> Answers:
        """Return the answers of some rows, by position."""
        return Answers(
            task=self.task,
            truth=self.truth[rows],
            predicted=self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            classes=self.classes,
        )


def align(
    truth: ArrayLike,
    scores: Scores,
    *,
    task: Task,
    classes: Sequence[object] | None = None,
    universe: Sequence[object] | None = None,
) -> Answers:
    """Check labels and answers against each other and code them alike.

    `classes` are the model's own, in the order of its probability columns; without them they are what occurs.
    `universe` are the classes to code by when two models are compared; default: `classes` and, in a multiclass task,
    labels that the model has never seen (it gets them wrong, with probability 0).
    Raises InvalidInput for labels that cannot be used, UnusableScores for answers that cannot.
    """
    check_task(task)
    labels, predicted = as_labels(truth), np.asarray(scores.prediction).reshape(-1)
    if len(labels) != len(predicted):
        raise InvalidInput(
            f"{len(labels)} labels came with {len(predicted)} predictions.",
            "Score the same rows that the labels are of.",
        )
    if task == "regression":
        return Answers(
            task=task,
            truth=_numbers(labels),
            predicted=_finite_predictions(predicted),
            probabilities=None,
            classes=(),
        )
    own = tuple(classes) if classes is not None else _occurring(labels, predicted, scores, task)
    known = tuple(universe) if universe is not None else universe_of(labels, own, task=task)
    return Answers(
        task=task,
        truth=_codes(labels, known),
        predicted=_predicted_codes(predicted, known),
        probabilities=_probabilities(scores.probabilities, own, known, len(labels)),
        classes=known,
    )


def as_labels(truth: ArrayLike) -> Labels:
    """Return labels as an array [n]; InvalidInput when there are none, or some are missing."""
    labels = np.asarray(truth).reshape(-1)
    if not len(labels):
        raise InvalidInput("There are no rows to evaluate.", "Give at least one labelled row.")
    gone = missing_labels(labels)
    if gone.any():
        raise InvalidInput(
            f"{int(gone.sum())} of {len(labels)} labels are missing (first at row {int(gone.argmax())}).",
            "Evaluate only rows whose label has arrived.",
        )
    return labels


def missing_labels(labels: Labels) -> NDArray[np.bool_]:
    """Mark labels that are null or not a number."""
    if labels.dtype.kind == "f":
        return np.isnan(labels)
    if labels.dtype.kind == "O":
        return np.array([label is None or label != label for label in labels], dtype=np.bool_)  # noqa: PLR0124 - NaN
    return np.zeros(len(labels), dtype=np.bool_)


def check_task(task: str) -> None:
    """Raise InvalidInput for a task that does not exist."""
    if task not in TASKS:
        raise InvalidInput(f"There is no task {task!r}.", f"Tasks are {', '.join(TASKS)}.")


def universe_of(labels: Labels, *known: Iterable[object], task: Task) -> tuple[object, ...]:
    """Return all classes of the models in order, then labels that none of them knows.

    A binary task has two: a model that was fitted on one class alone is completed by the other's or the labels' class.
    Raises InvalidInput when a binary label is a third class, or no label is a class at all.
    """
    classes = tuple(dict.fromkeys(one for some in known for one in some))
    occurring = _distinct(labels)
    new = tuple(label for label in occurring if label not in classes)
    everything = classes + new
    if new and (len(new) == len(occurring) or (task == "binary" and len(everything) > 2)):
        rows = sum(label in new for label in labels.tolist())
        raise InvalidInput(
            f"{rows} of {len(labels)} labels are not among the model's classes: {_some(new)} is not one of "
            f"{_some(classes)}.",
            "Check the label column and its type ('1' is not 1), or train a model that knows the new class.",
        )
    if task == "binary" and len(everything) < 2 and set(everything) <= {0, 1}:
        return (0, 1)
    return _ordered(everything) if task == "binary" and new else everything


def _ordered(classes: Iterable[object]) -> tuple[object, ...]:
    return tuple(sorted(classes, key=lambda label: (isinstance(label, str), label)))


def _occurring(labels: Labels, predicted: Labels, scores: Scores, task: Task) -> tuple[object, ...]:
    found = {*_distinct(labels), *_distinct(predicted)}
    if task == "binary" and found <= {0, 1}:
        return (0, 1)
    ordered = _ordered(found)
    width = None if scores.probabilities is None else scores.probabilities.shape[-1]
    if (width is not None and width != len(ordered)) or (task == "binary" and len(ordered) != 2):
        raise InvalidInput(
            f"{len(ordered)} classes occur ({_some(ordered)}) in a {task} task"
            + ("." if width is None else f" with {width} columns of probabilities."),
            "Give the model's classes in the order of its probability columns.",
        )
    return ordered


def _distinct(values: Labels) -> list[object]:
    if values.dtype.kind == "O":
        return list(dict.fromkeys(values.tolist()))
    distinct: list[object] = np.unique(values).tolist()
    return distinct


def _codes(values: Labels, classes: tuple[object, ...]) -> Floats:
    position = {label: index for index, label in enumerate(classes)}
    if values.dtype.kind == "O":
        return np.array([position.get(value, -1) for value in values.tolist()], dtype=np.float64)
    distinct, inverse = np.unique(values, return_inverse=True)
    return np.array([position.get(value, -1) for value in distinct.tolist()], dtype=np.float64)[inverse]


def _predicted_codes(predicted: Labels, classes: tuple[object, ...]) -> Floats:
    codes = _codes(predicted, classes)
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        raise UnusableScores(
            f"{int((codes < 0).sum())} of {len(codes)} predictions are no class of the model (row {row}: "
            f"{predicted[row]!r}, classes {_some(classes)}).",
            "Check that the model answers with its own classes.",
        )
    return codes


def _numbers(labels: Labels) -> Floats:
    try:
        numbers = labels.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"The label of a regression is not a number: {error}.", "Give a numeric label, or another task."
        ) from error
    if not np.isfinite(numbers).all():
        raise InvalidInput(
            f"{int((~np.isfinite(numbers)).sum())} of {len(numbers)} labels are infinite.", "Drop or mend those rows."
        )
    return numbers


def _finite_predictions(predicted: Labels) -> Floats:
    try:
        numbers = predicted.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UnusableScores(
            f"A prediction of a regression is not a number: {error}.", "Check the model's task."
        ) from error
    _refuse_rows(~np.isfinite(numbers), "predictions are not finite")
    return numbers


def _probabilities(
    given: NDArray[Any] | None, own: tuple[object, ...], known: tuple[object, ...], rows: int
) -> Floats | None:
    if given is None:
        return None
    shares = np.asarray(given, dtype=np.float64)
    if shares.shape != (rows, len(own)):
        raise UnusableScores(
            f"The probabilities have shape {shares.shape} for {rows} rows and {len(own)} classes.",
            "Give one line per row and one column per class, in the order of the classes.",
        )
    sums: Floats = shares.sum(axis=1)
    _refuse_rows(~np.isfinite(sums), "lines of probabilities are not finite")
    outside = np.logical_or((shares < -SUM_TOLERANCE).any(axis=1), np.abs(sums - 1.0) > SUM_TOLERANCE)
    _refuse_rows(outside, "lines of probabilities do not sum to 1")
    if own == known:
        return shares
    columns = np.zeros((rows, len(known)))
    columns[:, [known.index(label) for label in own]] = shares
    return columns


def _refuse_rows(bad: NDArray[np.bool_], what: str) -> None:
    if bad.any():
        raise UnusableScores(
            f"{int(bad.sum())} of {len(bad)} {what} (first at row {int(bad.argmax())}).",
            "A model that answers so cannot be judged; look at those rows and at how it was trained.",
        )


def _some(values: Sequence[object]) -> str:
    return ", ".join(repr(value) for value in values[:8]) + (", ..." if len(values) > 8 else "")
