"""LightGBM, XGBoost, callables and objects: described, stored, loaded, and answering like their own library."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xgboost
from sklearn.datasets import load_digits

from tidewheel.errors import InvalidInput, MissingExtra, NotFound, UnsupportedFormat
from tidewheel.lineage.store import Store
from tidewheel.models.booster_format import BoosterFormat
from tidewheel.models.bundle import load_bundle, save_bundle
from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.packing import pack, unpack
from tidewheel.models.signature import Field, Signature

LGB: dict[str, Any] = {"n_estimators": 12, "verbose": -1, "n_jobs": 1, "num_leaves": 7}
XGB: dict[str, Any] = {"n_estimators": 12, "n_jobs": 1, "max_depth": 3}


@pytest.fixture(scope="module")
def rides() -> tuple[pd.DataFrame, pd.Series, pd.Series, pd.Series]:
    """Numbers, gaps, a text category and a category of numbers; labels of two and three classes and an amount."""
    random = np.random.default_rng(3)
    rows = 1_200
    frame = pd.DataFrame(
        {
            "temp": random.normal(15, 8, rows),
            "hour": random.integers(0, 24, rows),
            "sky": pd.Categorical(random.choice(["snow", "clear", "rain"], rows), categories=["snow", "clear", "rain"]),
            "zone": pd.Categorical(random.choice([10, 20, 30], rows)),
        }
    )
    frame.loc[::9, "temp"] = np.nan
    frame.loc[::13, "sky"] = None
    amount = (
        frame["temp"].fillna(0) + 9 * (frame["sky"] == "clear") + frame["zone"].astype(float) + frame["hour"] / 3
    ).astype(float)
    return frame, (amount > 40).map({True: "busy", False: "calm"}), pd.cut(amount, 3, labels=False), amount


def library(name: str, task: str) -> Any:
    if name == "lightgbm":
        return lightgbm.LGBMRegressor(**LGB) if task == "amount" else lightgbm.LGBMClassifier(**LGB)
    settings = XGB | {"enable_categorical": True}
    return xgboost.XGBRegressor(**settings) if task == "amount" else xgboost.XGBClassifier(**settings)


def labels(rides: Any, name: str, task: str) -> Any:
    label = rides[{"two": 1, "three": 2, "amount": 3}[task]]
    return (label == "busy").astype(int) if name == "xgboost" and task == "two" else label


@pytest.mark.parametrize("raw", [False, True], ids=["face", "booster"])
@pytest.mark.parametrize("task", ["two", "three", "amount"])
@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_booster_with_categories_answers_like_its_library_in_every_form(
    name: str, task: str, raw: bool, rides: Any, store: Store
) -> None:
    frame = rides[0]
    face = library(name, task).fit(frame, labels(rides, name, task))
    expected = face.predict_proba(frame) if task != "amount" else face.predict(frame)
    booster = (face.booster_ if name == "lightgbm" else face.get_booster()) if raw else face
    classes = None if not raw or task == "amount" else face.classes_.tolist()
    model = Model(booster, example=frame.head(50), classes=classes)

    sky, zone = model.signature.fields[2], model.signature.fields[3]
    assert (sky.kind, sky.nullable, sky.categories) == ("string", True, ["clear", "rain", "snow"])
    assert zone.kind == "int"
    assert model.adapter.categories == {"sky": ["snow", "clear", "rain"], "zone": ["10", "20", "30"]}
    assert model.signature.task == {"two": "binary", "three": "multiclass", "amount": "regression"}[task]

    bundle = save_bundle(store, model, rows=frame)
    names = [entry.name for entry in bundle.manifest.formats]
    assert names == (["onnx", "lightgbm"] if name == "lightgbm" else ["xgboost"])
    polars = pl.from_pandas(frame.assign(sky=frame["sky"].astype(object), zone=frame["zone"].astype("int64")))
    rows = [list(row) for row in polars.head(9).iter_rows()]
    for form in names:
        scorer = bundle.scorer(form)
        scores = scorer.score(polars)
        found = scores.prediction if task == "amount" else scores.probabilities
        assert found is not None
        np.testing.assert_allclose(found, expected, atol=1e-4 if task != "amount" else 1e-2)
        if task != "amount":
            np.testing.assert_array_equal(scores.prediction, face.predict(frame))
        np.testing.assert_array_equal(scorer.score_rows(rows).prediction, scores.prediction[:9])


def test_a_level_that_training_never_saw_is_missing(rides: Any, store: Store) -> None:
    model = Model(library("lightgbm", "amount").fit(rides[0], rides[3]), example=rides[0])
    bundle = save_bundle(store, model, rows=rides[0])
    for form in ("onnx", "lightgbm"):
        scorer = bundle.scorer(form)
        hail, none = scorer.score_rows([[1.0, 3, "hail", 20], [1.0, 3, None, 20]]).prediction
        assert hail == none


def test_xgboost_takes_the_levels_of_a_polars_enum_from_the_booster(rides: Any, store: Store) -> None:
    table = pl.from_pandas(rides[0]).with_columns(
        pl.col("sky").cast(pl.String).cast(pl.Categorical), pl.col("zone").cast(pl.Int64)
    )
    face = library("xgboost", "two").fit(table, labels(rides, "xgboost", "two"))
    few = table.filter(pl.col("sky").cast(pl.String) == "rain").head(5)
    model = Model(face, example=few)
    assert sorted(model.adapter.categories["sky"]) == ["clear", "rain", "snow"]
    np.testing.assert_array_equal(model.predict_proba(table), face.predict_proba(table))
    bundle = save_bundle(store, model, rows=table)
    assert "drops XGBoost's splits by category" in bundle.manifest.formats[0].reason


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_real_digits_become_onnx_with_a_thousand_rows_compared(name: str, store: Store) -> None:
    x, y = load_digits(return_X_y=True)
    face = library(name, "three").fit(x, y)
    bundle = save_bundle(store, Model(face, example=x[:20]), rows=x)
    first, native = bundle.manifest.formats
    assert (first.name, native.name) == ("onnx", name)
    assert first.parity.rows >= 1_000
    assert first.parity.different == 0
    np.testing.assert_array_equal(bundle.scorer().score(x).prediction, face.predict(x))


def test_early_stopping_keeps_the_best_iteration(rides: Any, store: Store) -> None:
    x, y = rides[0][["temp", "hour"]], rides[3]
    face = xgboost.XGBRegressor(n_estimators=60, n_jobs=1, learning_rate=0.9, early_stopping_rounds=2)
    face.fit(x[:200], y[:200], eval_set=[(x[200:300], y[200:300])], verbose=False)
    assert face.best_iteration < face.get_booster().num_boosted_rounds() - 1
    bundle = save_bundle(store, Model(face, example=x), rows=x)
    for entry in bundle.manifest.formats:
        np.testing.assert_allclose(bundle.scorer(entry.name).score(x).prediction, face.predict(x), rtol=1e-4)


@pytest.mark.parametrize("objective", ["binary:logitraw", "binary:hinge", "count:poisson", "reg:logistic"])
def test_objectives_of_xgboost_are_read_as_they_are_meant(objective: str, rides: Any, store: Store) -> None:
    x, y = rides[0][["temp", "hour"]], labels(rides, "xgboost", "two")
    booster = xgboost.train({"objective": objective, "max_depth": 2}, xgboost.DMatrix(x, y), 8)
    bundle = save_bundle(store, Model(booster, example=x), rows=x)
    raw = booster.predict(xgboost.DMatrix(x))
    scores = bundle.scorer().score(x)
    if objective == "binary:logitraw":
        np.testing.assert_array_equal(scores.prediction, (raw > 0).astype(int))
    else:
        np.testing.assert_allclose(scores.prediction, raw, rtol=1e-4)
        assert bundle.manifest.signature.task == ("binary" if objective == "binary:hinge" else "regression")


def test_a_linear_booster_and_dart_stay_native_with_the_reason(rides: Any, store: Store) -> None:
    x, y = rides[0][["hour"]], rides[3]
    for settings in ({"booster": "gblinear"}, {"booster": "dart", "rate_drop": 0.3}):
        face = xgboost.XGBRegressor(n_estimators=4, n_jobs=1, **settings).fit(x, y)
        bundle = save_bundle(store, Model(face, example=x), rows=x)
        np.testing.assert_allclose(bundle.scorer("xgboost").score(x).prediction, face.predict(x), rtol=1e-5)
        first = bundle.manifest.formats[0]
        assert first.name == "onnx" or "onnx" in first.reason


def test_names_with_blanks_and_arrays_without_names_are_taken_by_position(rides: Any) -> None:
    x = rides[0][["temp", "hour"]].rename(columns={"temp": "air temp"})
    face = lightgbm.LGBMRegressor(**LGB).fit(x, rides[3])
    model = Model(face.booster_, example=pl.from_pandas(x))
    np.testing.assert_array_equal(model.predict(x), face.predict(x))
    bare = Model(lightgbm.LGBMRegressor(**LGB).fit(x.to_numpy(), rides[3]).booster_, example=x)
    assert bare.signature.names == ["air temp", "hour"]


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_between_steps_a_booster_stays_what_it_was(name: str, rides: Any) -> None:
    face = library(name, "amount").fit(rides[0], rides[3])
    model = Model(face, example=rides[0])
    again = unpack(pack(model))
    assert type(again.estimator) is type(face)
    assert pack(model) == pack(Model(face, example=rides[0]))
    np.testing.assert_array_equal(again.predict(rides[0]), model.predict(rides[0]))


class TwiceTheHour:
    """The smallest object with `predict`."""

    def predict(self, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
        return (rows["hour"] * 2.0).to_numpy()


class Weather:
    """An object that answers with probabilities and does not name its classes."""

    def predict(self, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
        return np.where(rows["temp"].to_numpy() > 10, "warm", "cold")

    def predict_proba(self, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
        warm = (rows["temp"].to_numpy() > 10).astype(float)
        return np.column_stack([1 - warm, warm])


def test_any_callable_and_object_is_a_model_and_a_pickle_by_consent(store: Store) -> None:
    rows = pl.DataFrame({"hour": [1, 2, 3], "temp": [4.0, 14.0, 24.0]})
    function = Model(lambda table: table["hour"] * 2.0, example=rows, task="regression", trust=True)
    thing = Model(TwiceTheHour(), example=rows, task="regression", trust=True)
    assert function.predict(rows).tolist() == thing.predict(rows).tolist() == [2.0, 4.0, 6.0]
    weather = Model(Weather(), example=rows, classes=["cold", "warm"], trust=True)
    assert weather.signature.task == "binary"
    assert weather.predict_proba(rows)[:, 1].tolist() == [0.0, 1.0, 1.0]
    for model in (function, thing, weather):
        bundle = save_bundle(store, model, rows=rows)
        assert bundle.manifest.formats[0].trust
        np.testing.assert_array_equal(bundle.scorer().score(rows).prediction, model.predict(rows))
        with pytest.raises(UnsupportedFormat, match="trust=True"):
            load_bundle(store, bundle.digest).scorer()
    untrusted = Model(TwiceTheHour(), example=rows, task="regression")
    with pytest.raises(UnsupportedFormat, match="runs code"):
        save_bundle(store, untrusted, rows=rows)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_what_does_not_fit_is_refused_in_words(name: str, rides: Any) -> None:
    x = rides[0][["temp", "hour"]]
    with pytest.raises(InvalidInput, match="not fitted"):
        Model(library(name, "amount"), example=x)
    face = library(name, "amount").fit(x, rides[3])
    with pytest.raises(NotFound, match="hour"):
        Model(face, example=rides[0][["temp", "zone"]])
    with pytest.raises(InvalidInput, match="fitted on 2 columns"):
        Model(face, example=rides[0][["temp", "hour", "zone"]].astype(float).to_numpy())
    with pytest.raises(InvalidInput, match="holds string"):
        Model(face, example=pl.DataFrame({"temp": ["a"], "hour": [1]}))
    with pytest.raises(InvalidInput, match="no predict"):
        Model(3, example=x)


class Undecided(Weather):
    """Probabilities that are none for cold weather."""

    def predict_proba(self, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
        table = super().predict_proba(rows)
        return np.where(table[:, :1] == 1, np.nan, table)


def test_a_model_that_answers_nan_is_not_saved(store: Store) -> None:
    rows = pl.DataFrame({"temp": [1.0, 4.0, 20.0]})
    broken = Model(lambda table: table["temp"].to_numpy() * np.nan, example=rows, task="regression", trust=True)
    with pytest.raises(InvalidInput, match="answers NaN to 3 of the 3 rows"):
        save_bundle(store, broken, rows=rows)
    undecided = Model(Undecided(), example=rows, classes=["cold", "warm"], trust=True)
    with pytest.raises(InvalidInput, match="answers NaN to 2 of the 3 rows"):
        save_bundle(store, undecided, rows=rows)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_other_bytes_are_no_booster(name: Any) -> None:
    signature = Signature(task="regression", fields=[Field(name="x", kind="float")])
    with pytest.raises(UnsupportedFormat, match=f"{name} cannot read"):
        BoosterFormat(name=name).load(b"no model", signature=signature, adapter=Adapter())


def test_a_form_whose_library_is_absent_is_passed_over_and_said(
    rides: Any, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = rides[0][["temp", "hour"]], rides[3]
    face = library("lightgbm", "amount").fit(x, y)
    bundle = save_bundle(store, Model(face, example=x), rows=x, formats=["lightgbm", "onnx"])
    assert [entry.name for entry in bundle.manifest.formats] == ["lightgbm", "onnx"]
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with caplog.at_level(logging.WARNING, "tidewheel.models"):
        opened = load_bundle(store, bundle.digest).open()
    assert opened.form == "onnx"
    assert "'lightgbm' is not installed" in opened.passed_over[0]
    assert "passed over" in caplog.text
    np.testing.assert_allclose(opened.scorer.score(x).prediction, face.predict(x), rtol=1e-4)
    with pytest.raises(MissingExtra, match=r"tidewheel\[lightgbm\]"):
        bundle.scorer("lightgbm")


def test_none_of_the_libraries_is_imported_without_need() -> None:
    code = (
        "import sys, numpy as np; from sklearn.linear_model import Ridge; from tidewheel.models.model import Model;"
        "Model(Ridge().fit(np.eye(3), [1, 2, 3]), example=np.eye(3)).predict(np.eye(3));"
        "print(sorted({'lightgbm', 'xgboost', 'torch', 'mlflow', 'onnxmltools', 'yaml'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
