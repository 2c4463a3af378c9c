"""Say how good a model's answers are on rows whose labels are known."""

from __future__ import annotations

import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.evaluation.evaluate import Evaluation
from tidewheel.evaluation.evaluate import evaluate as measured
from tidewheel.models.model import Model
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns, refuse_empty


@step
def evaluate(model: Model, rows: pl.DataFrame, label: str = "", slices: list[str] | None = None) -> Evaluation:
    """Return every metric of the model's task on the rows, and for each slice of them by the columns `slices`.

    `label` is the column with what turned out to be true; without it the one that the model was fitted to tell.

    >>> from sklearn.linear_model import LinearRegression
    >>> rows = pl.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 3.0, 5.0]})
    >>> model = Model(LinearRegression().fit(rows[["x"]], rows["y"]), example=rows[["x"]], target="y")
    >>> round(evaluate(model, rows).metrics["rmse"], 6)
    0.0

    Raises InvalidInput for an empty frame and missing labels, NotFound for a column that is not there.
    """
    refuse_empty(rows, "evaluate on")
    truth = label or model.signature.target
    if not truth:
        raise InvalidInput("The model does not say which column it tells.", 'Give label="...".')
    check_columns(rows, [truth, *(slices or [])])
    return measured(
        rows[truth].to_numpy(),
        model.score(rows),
        task=model.signature.task,
        classes=model.signature.classes,
        rows=rows,
        slices=slices or (),
    )
