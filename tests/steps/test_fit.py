"""Fit, judge and score as scikit-learn does, with clear words for what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, roc_auc_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tidewheel
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.steps.batch_score import batch_score
from tidewheel.steps.evaluate import evaluate
from tidewheel.steps.fit import fit

NUMBERS = ["size", "rooms"]


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("sklearn.linear_model.Ridge", {"alpha": 2.0}),
        (Ridge, {"alpha": 2.0}),
        (Ridge(alpha=2.0), {}),
    ],
)
def test_an_estimator_is_given_by_path_class_or_object(
    houses: pl.DataFrame, estimator: Any, parameters: dict[str, Any]
) -> None:
    model = fit(houses, "price", estimator, parameters=parameters, features=NUMBERS)
    oracle = Ridge(alpha=2.0).fit(houses[NUMBERS], houses["price"])
    np.testing.assert_allclose(model.predict(houses), oracle.predict(houses[NUMBERS]))
    assert model.signature.target == "price"
    if isinstance(estimator, Ridge):
        assert not hasattr(estimator, "coef_")  # the caller's own object is left as it was


def test_the_seed_is_set_where_there_is_one(houses: pl.DataFrame) -> None:
    path = "sklearn.ensemble.RandomForestClassifier"
    fitted = [fit(houses, "sold", path, features=NUMBERS, seed=seed).predict_proba(houses) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(fitted[0], fitted[1])
    assert not np.array_equal(fitted[0], fitted[2])
    inner = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=5))
    assert fit(houses, "sold", inner, features=NUMBERS, seed=9).estimator[-1].random_state == 9
    kept = fit(houses, "sold", RandomForestClassifier(n_estimators=5, random_state=3), features=NUMBERS, seed=9)
    assert kept.estimator.random_state == 3


def test_metrics_are_scikit_learns(houses: pl.DataFrame) -> None:
    price = fit(houses.head(150), "price", Ridge(), features=NUMBERS)
    held = houses.tail(50)
    found = evaluate(price, held)
    assert found.metrics["rmse"] == pytest.approx(root_mean_squared_error(held["price"], price.predict(held)))
    sold = fit(houses.head(150), "sold", LogisticRegression(), features=NUMBERS)
    judged = evaluate(sold, houses, "sold", ["town"])
    assert judged.metrics["accuracy"] == pytest.approx(accuracy_score(houses["sold"], sold.predict(houses)))
    assert judged.metrics["roc_auc"] == pytest.approx(
        roc_auc_score(houses["sold"] == "yes", sold.predict_proba(houses)[:, 1])
    )
    assert {name.partition("=")[2].strip("'\"") for name in judged.slices} == {"Delft", "Gouda", "Leiden"}


@pytest.mark.parametrize("batch", [1, 7, 200, 10_000])
def test_scores_do_not_depend_on_the_size_of_the_batch(houses: pl.DataFrame, batch: int) -> None:
    model = fit(houses, "sold", LogisticRegression(), features=NUMBERS)
    scored = batch_score(model, houses, ["owner"], batch)
    assert scored.columns == ["owner", "prediction", "probability=no", "probability=yes"]
    np.testing.assert_array_equal(scored["prediction"].to_numpy(), model.predict(houses))
    np.testing.assert_allclose(scored["probability=yes"].to_numpy(), model.predict_proba(houses)[:, 1])
    assert batch_score(model, houses.clear(), ["owner"], batch).height == 0


@pytest.mark.parametrize(
    ("estimator", "options", "error", "hint"),
    [
        ("sklearn.linear_model.Rigde", {}, NotFound, "Ridge"),
        ("sklearn.linear_modle.Ridge", {}, NotFound, "linear_modle"),
        ("Ridge", {}, NotFound, "module"),
        (Ridge(), {"parameters": {"alfa": 1}}, NotFound, "alpha"),
        (Ridge(), {"features": ["sise"]}, NotFound, "size"),
        (Ridge(), {"label": "prise"}, NotFound, "price"),
        (Ridge(), {"features": ["price"]}, InvalidInput, "features"),
        (Ridge(), {"features": ["town", "size"]}, InvalidInput, "Encode what is not a number"),
        (3, {}, InvalidInput, "not an estimator"),
        ("sklearn.pipeline.Pipeline", {}, InvalidInput, "cannot be made"),
    ],
)
def test_wrong_wishes_are_refused(
    houses: pl.DataFrame, estimator: Any, options: dict[str, Any], error: type[Exception], hint: str
) -> None:
    with pytest.raises(error, match=hint):
        fit(houses, options.pop("label", "price"), estimator, **{"features": NUMBERS, **options})


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (pl.lit(1.0).alias("price"), "nothing to learn"),
        (pl.lit(None, pl.Float64).alias("price"), "missing"),
        (pl.lit(float("nan")).alias("size"), "Ridge refuses"),
        (pl.lit(float("nan")).alias("price"), "missing"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(houses: pl.DataFrame, change: pl.Expr, hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        fit(houses.with_columns(change), "price", Ridge(), features=NUMBERS)
    with pytest.raises(InvalidInput, match="0 rows"):
        fit(houses.clear(), "price", Ridge())


def test_models_and_labels_that_cannot_be_judged_are_refused(houses: pl.DataFrame) -> None:
    model = fit(houses, "price", Ridge(), features=NUMBERS)
    with pytest.raises(InvalidInput, match="0 rows"):
        evaluate(model, houses.clear())
    with pytest.raises(InvalidInput, match="is not a model"):
        batch_score(3, houses)
    with pytest.raises(InvalidInput, match="at least 1 row"):
        batch_score(model, houses, batch=0)
    with pytest.raises(InvalidInput, match="already"):
        batch_score(model, houses.with_columns(prediction=pl.lit(1)))


FLOW = """
import polars as pl
from tidewheel import Model, pipeline
from tidewheel.steps.evaluate import evaluate
from tidewheel.steps.fit import fit
from tidewheel.steps.impute import fit_imputer, impute
from tidewheel.steps.one_hot import fit_one_hot, one_hot
from tidewheel.steps.scale import fit_scaler, scale
from tidewheel.steps.split import split_stratified
from tidewheel.steps.batch_score import batch_score

@pipeline
def sales(rows: pl.DataFrame, strength: float = 1.0):
    train, test = split_stratified(rows.drop("owner", "day"), by="sold")
    imputer = fit_imputer(train, label="sold")
    encoder = fit_one_hot(train, columns=["town"])
    scaler = fit_scaler(impute(train, imputer), label="sold")

    def ready(part):
        return scale(one_hot(impute(part, imputer), encoder), scaler)

    model = fit(ready(train), "sold", "sklearn.linear_model.LogisticRegression", parameters={"C": strength})
    return {"worth": evaluate(model, ready(test)), "scores": batch_score(model, ready(test), keep=["sold"])}
"""


def test_the_steps_make_a_pipeline_that_is_answered_from_the_cache(houses: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "sales.py").write_text(FLOW)
    app = tidewheel.open(tmp_path / "home")
    gaps = houses.with_columns(size=pl.when(pl.col("rooms") == 3).then(None).otherwise("size"))
    first = app.run(f"{tmp_path / 'sales.py'}:sales", rows=gaps)
    assert first.state == "SUCCEEDED"
    assert 0 <= first.output["worth"].metrics["accuracy"] <= 1
    assert first.output["scores"].height == first.output["worth"].n
    second = app.run(f"{tmp_path / 'sales.py'}:sales", rows=gaps)
    assert {step.state for step in second.steps} == {"CACHED"}
    third = app.run(f"{tmp_path / 'sales.py'}:sales", rows=gaps, strength=0.1)
    ran = [step.name for step in third.steps if step.state == "COMMITTED"]
    assert ran == ["fit", "evaluate", "batch_score"]
    app.close()
