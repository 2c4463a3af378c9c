"""Steps that train, in a file of their own: child processes import what their file imports."""

from __future__ import annotations

import numpy as np
import polars as pl

from tidewheel.models.model import Model
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.step import step


@step
def fit(rows: pl.DataFrame, alpha: float = 1.0) -> Model:
    """Train."""
    from sklearn.linear_model import Ridge

    x = rows.select("a")
    return Model(Ridge(alpha=alpha).fit(x, rows["y"]), example=x)


@step
def error_of(model: Model, rows: pl.DataFrame) -> float:
    """Mean absolute error."""
    return float(np.abs(model.predict(rows.select("a")) - rows["y"].to_numpy()).mean())


@pipeline
def train(rows: pl.DataFrame, alphas: list[float]) -> Model:
    """Train several, keep the best."""
    models = [fit(rows, alpha) for alpha in alphas]
    errors = [error_of(model, rows) for model in models]
    return models[errors.index(min(errors))]
