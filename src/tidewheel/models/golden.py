"""Golden samples: a few real rows with the original model's answers, checked whenever a bundle is loaded."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl

from tidewheel.errors import ValidationFailed
from tidewheel.models.parity import compare_scores, sample
from tidewheel.models.scorer import Scorer, Scores
from tidewheel.models.signature import Label, Signature

ROWS = 8


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """Rows and the answers that every stored format must give to them."""

    rows: list[list[Any]]  # values in the order of the fields; null is a missing value
    prediction: list[Label]  # the original model's answers
    probabilities: list[list[float]] | None = None  # [row][class], in the order of the signature's classes


def golden_samples(model: Scorer, frame: pl.DataFrame) -> Golden:
    """Choose up to 8 rows, evenly spread, and score them with the original (or whichever form is given).

    Rows with infinite values or without a finite answer are left out: JSON cannot hold them.
    """
    usable = frame.filter(pl.all_horizontal(_finite(column) for column in frame))
    rows = [[_plain(value) for value in row] for row in sample(usable, ROWS).iter_rows()]
    scores = model.score_rows(rows)
    kept = [position for position in range(len(rows)) if _answered(scores, position)]
    probabilities = None if scores.probabilities is None else scores.probabilities[kept].tolist()
    return Golden(
        rows=[rows[position] for position in kept],
        prediction=scores.prediction[kept].tolist(),
        probabilities=probabilities,
    )


def verify_golden(golden: Golden, scorer: Scorer, name: str) -> None:
    """Score the golden rows and raise ValidationFailed when an answer differs from the recorded one."""
    if not golden.rows:
        return
    recorded = Scores(
        _answers(golden.prediction, scorer.signature),
        None if golden.probabilities is None else np.asarray(golden.probabilities),
    )
    parity = compare_scores(recorded, scorer.score_rows(golden.rows))
    if not parity.passed:
        raise ValidationFailed(
            f"The {name} model answered {parity.different} of its {parity.rows} golden samples differently "
            f"(largest difference {parity.largest:.3g}, limit {parity.limit:.2g}).",
            "Install the packages of the bundle's lock, or save the bundle again with this installation.",
            findings=[parity],
        )


def _answers(prediction: list[Label], signature: Signature) -> np.ndarray[Any, Any]:
    return np.asarray(prediction, dtype=np.float64 if signature.task == "regression" else None)


def _answered(scores: Scores, position: int) -> bool:
    numbers = scores.prediction[position : position + 1]
    finite = bool(np.isfinite(numbers).all()) if numbers.dtype.kind == "f" else True
    return finite and (scores.probabilities is None or bool(np.isfinite(scores.probabilities[position]).all()))


def _finite(column: pl.Series) -> pl.Expr:
    if column.dtype.is_float():
        return pl.col(column.name).is_infinite().fill_null(value=False).not_()
    return pl.lit(value=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and np.isnan(value):
        return None
    return value.isoformat() if isinstance(value, datetime | date) else value
