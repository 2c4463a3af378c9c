"""What a model's inputs and answers looked like when it was made: the yardstick of monitoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.models.scorer import Matrix, Scores
from tidewheel.models.signature import Signature
from tidewheel.stats.profile import Profile, profile_frame

PREDICTION = "prediction"
PROBABILITY = "probability"


def output_columns(
    signature: Signature, prediction: Sequence[Any] | Matrix, probabilities: Sequence[Sequence[float]] | Matrix | None
) -> pl.DataFrame:
    """Return a model's answers as the two columns that baselines and windows compare.

    `prediction` is the number, or the class label as text; `probability` that of the second class for two classes,
    of the likeliest for more, and absent without probabilities.
    """
    values = prediction.tolist() if isinstance(prediction, np.ndarray) else list(prediction)
    if signature.task == "regression":
        return pl.DataFrame({PREDICTION: pl.Series(values, dtype=pl.Float64, strict=False)})
    columns = {PREDICTION: pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)}
    if probabilities is not None and signature.probabilities:
        table = np.asarray(probabilities, dtype=np.float64).reshape(len(values), -1)
        last = table[:, 1] if signature.task == "binary" and table.shape[1] == 2 else table.max(axis=1, initial=0.0)
        columns[PROBABILITY] = pl.Series(last)
    return pl.DataFrame(columns)


def baseline_of(signature: Signature, frame: pl.DataFrame, scores: Scores) -> Profile:
    """Profile the features together with the model's answers to them.

    Raises InvalidInput when a feature is called `prediction` or `probability`.
    """
    for name in (PREDICTION, PROBABILITY):
        if name in frame.columns:
            raise InvalidInput(
                f"A feature is called {name!r}, which is the name of the model's own answer in its baseline.",
                "Rename that column.",
            )
    answers = output_columns(signature, scores.prediction, scores.probabilities)
    return profile_frame(pl.concat([frame, answers], how="horizontal"))
