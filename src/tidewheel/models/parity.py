"""Whether a stored model answers like the original, on real rows."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl

from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer, Scores

MAX_ROWS = 2_000
TOLERANCE = 1e-4  # of a probability, or of the largest prediction for regression


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How a stored model compared with the original."""

    passed: bool  # whether every row was answered alike
    rows: int  # rows compared
    different: int  # rows with another decision: another class, or a number beyond the tolerance
    largest: float  # largest absolute difference of a probability, or of a number for regression
    limit: float  # largest difference allowed


def sample(frame: pl.DataFrame, rows: int = MAX_ROWS) -> pl.DataFrame:
    """Return at most so many rows, evenly spread over the frame, first and last included."""
    if frame.height <= rows:
        return frame
    return frame[np.linspace(0, frame.height - 1, rows).round().astype(np.int64)]


def check_parity(model: Model, scorer: Scorer, frame: pl.DataFrame) -> Parity:
    """Compare a scorer with the original model on real rows (at most 2,000 of them are used).

    Float32 thresholds of trees are where conversions go wrong: a value that lies between a threshold and its
    rounding takes the other branch, and only rows like those of production show it.
    """
    rows = sample(frame)
    return compare_scores(model.score(rows), scorer.score(rows))


def compare_scores(original: Scores, other: Scores) -> Parity:
    """Compare two answers to the same rows.

    >>> compare_scores(Scores(np.array([1, 0])), Scores(np.array([1, 1]))).different
    1
    """
    count = len(original.prediction)
    if original.prediction.dtype.kind == "f" and original.probabilities is None:
        return _compare_numbers(original.prediction, other.prediction)
    different = count - int(np.count_nonzero(np.asarray(original.prediction == other.prediction)))
    largest = _largest(original.probabilities, other.probabilities)
    limit = TOLERANCE
    return Parity(
        passed=different == 0 and largest <= limit, rows=count, different=different, largest=largest, limit=limit
    )


def describe(parity: Parity) -> str:
    """Say in a sentence why parity failed, or that it passed."""
    if parity.passed:
        return f"Alike on {parity.rows:,} rows (largest difference {parity.largest:.2g})."
    return (
        f"Parity failed: {parity.different:,} of {parity.rows:,} rows were decided differently, "
        f"largest difference {parity.largest:.3g} (limit {parity.limit:.2g})."
    )


def _compare_numbers(original: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> Parity:
    if other.shape != original.shape:
        return Parity(passed=False, rows=len(original), different=len(original), largest=np.inf, limit=0.0)
    differences = np.abs(original.astype(np.float64) - other.astype(np.float64))
    differences = np.where(np.isnan(original) & np.isnan(other), 0.0, differences)
    differences = np.where(np.isnan(differences), np.inf, differences)
    finite = original[np.isfinite(original)]
    limit = TOLERANCE * float(np.abs(finite).max(initial=0.0))
    different = int(np.count_nonzero(differences > limit))
    largest = float(differences.max(initial=0.0))
    return Parity(passed=different == 0, rows=len(original), different=different, largest=largest, limit=limit)


def _largest(original: np.ndarray[Any, Any] | None, other: np.ndarray[Any, Any] | None) -> float:
    if original is None and other is None:
        return 0.0
    if original is None or other is None or original.shape != other.shape:
        return np.inf
    difference = float(np.abs(original - other).max(initial=0.0))
    return np.inf if np.isnan(difference) else difference
