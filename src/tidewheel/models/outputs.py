"""What the raw output of a booster or a network means, and the answers it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from tidewheel.errors import InvalidInput
from tidewheel.models.scorer import Scores
from tidewheel.models.signature import Label

Output = Literal["", "numbers", "probabilities", "logits", "log_probabilities", "labels"]
Array = np.ndarray[Any, np.dtype[Any]]


def read_outputs(raw: Array, output: str, classes: Sequence[Label] | None) -> Scores:
    """Turn raw outputs [n], [n, 1] or [n, classes] into predictions and probabilities.

    One column for two classes is that of the second class. Ties go to the first class, as in scikit-learn.

    >>> read_outputs(np.array([0.2, 0.9]), "probabilities", ["no", "yes"]).prediction.tolist()
    ['no', 'yes']
    >>> read_outputs(np.array([[0.0, 0.0, 9.0]]), "logits", [1, 2, 3]).prediction.tolist()
    [3]

    Raises InvalidInput for a shape that gives no answer per row.
    """
    raw = np.asarray(raw)
    if classes is None or output in ("numbers", ""):
        return Scores(_column(raw))
    labels = np.asarray(classes)
    if output == "labels":
        return Scores(labels[_column(raw).astype(np.int64)])
    table = _probabilities(raw, output, len(labels))
    return Scores(labels[table.argmax(axis=1)], table)


def _probabilities(raw: Array, output: str, count: int) -> Array:
    if count == 2 and (raw.ndim == 1 or raw.shape[1] == 1):
        second = _column(raw)
        second = _sigmoid(second) if output == "logits" else np.exp(second) if output == "log_probabilities" else second
        return np.column_stack([1 - second, second])
    if raw.ndim != 2 or raw.shape[1] != count:
        raise InvalidInput(
            f"The model answers with shape {raw.shape}, which are no probabilities of {count} classes.",
            "Name its classes in the order of its outputs: Model(..., classes=[...]).",
        )
    if output == "probabilities":
        return raw
    powers = np.exp(raw - raw.max(axis=1, keepdims=True))
    table: Array = powers / powers.sum(axis=1, keepdims=True)
    return table


def _column(raw: Array) -> Array:
    if raw.ndim == 1 or (raw.ndim == 2 and raw.shape[1] == 1):
        return raw.reshape(-1)
    raise InvalidInput(
        f"The model answers with shape {raw.shape}, not with one value per row.", "Fit one model per number or label."
    )


def _sigmoid(margins: Array) -> Array:
    with np.errstate(over="ignore"):
        table: Array = 1 / (1 + np.exp(-margins))
    return table
