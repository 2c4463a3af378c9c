"""A labels window sums what its rows have, and leaves out what one of them lacks."""

from __future__ import annotations

import math

import numpy as np
import orjson

from tidewheel.monitoring.collect import OpenLabels, add_losses
from tidewheel.predictions.join import LabelledRow
from tidewheel.predictions.records import Prediction

ANSWER = Prediction(
    id="r", at=1, model="m", version=1, arm="champion", propensity=1.0, unit="", status=200, features=[[1]], output=[1]
)
ROWS = [LabelledRow(prediction=ANSWER, row=0, label=1, at=2)] * 2


def add(window: OpenLabels, error: list[float], surprise: list[float]) -> OpenLabels:
    losses = {"error": np.array(error), "surprise": np.array(surprise)}
    return add_losses(window, ROWS, losses, watched="error")  # type: ignore[arg-type]


def test_a_loss_that_one_answer_lacks_is_left_out_of_the_window() -> None:
    window = add(add(OpenLabels(), [0.0, 1.0], [0.5, 0.25]), [1.0, 1.0], [math.nan, 0.25])
    assert window.sums == {"error": 3.0}
    assert add(window, [0.0, 0.0], [0.5, 0.5]).sums == {"error": 3.0}
    assert b"null" not in orjson.dumps(window.sums)


def test_a_row_without_the_watched_loss_is_counted_as_unusable() -> None:
    window = add(OpenLabels(), [math.nan, 1.0], [math.nan, 0.25])
    assert (window.rows, window.unusable, window.sums) == (1, 1, {"error": 1.0, "surprise": 0.25})
    assert add(OpenLabels(), [math.nan, math.nan], [0.0, 0.0]).rows == 0
