"""Models as Python and as C: compiled by gcc, and compared on rows with gaps, borders of thresholds, and both."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xgboost
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tidewheel.errors import UnsupportedFormat
from tidewheel.lineage.store import Store
from tidewheel.models import export_c, export_python
from tidewheel.models.bundle import save_bundle
from tidewheel.models.formulas import Formula, formula_of
from tidewheel.models.model import Model
from tidewheel.models.signature import from_rows

LGB: dict[str, Any] = {"n_estimators": 15, "verbose": -1, "n_jobs": 1, "num_leaves": 9}
XGB: dict[str, Any] = {"n_estimators": 15, "n_jobs": 1, "max_depth": 4}

PLAIN = {
    "linear": LinearRegression(),
    "ridge": make_pipeline(SimpleImputer(), StandardScaler(), Ridge()),
    "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    "sgd log": make_pipeline(MinMaxScaler(), SGDClassifier(loss="log_loss", random_state=0)),
    "sgd hinge": make_pipeline(StandardScaler(), SGDClassifier(random_state=0)),
    "sgd number": make_pipeline(StandardScaler(), SGDRegressor(random_state=0)),
    "tree": DecisionTreeClassifier(max_depth=6, random_state=0),
    "tree number": DecisionTreeRegressor(max_depth=6, random_state=0),
    "forest": RandomForestClassifier(8, max_depth=6, random_state=0),
    "forest number": RandomForestRegressor(8, max_depth=6, random_state=0),
    "gradient": GradientBoostingClassifier(n_estimators=8, random_state=0),
    "gradient number": GradientBoostingRegressor(n_estimators=8, random_state=0),
}
WITH_GAPS = {
    "gaps tree": DecisionTreeClassifier(max_depth=6, random_state=0),
    "gaps forest": RandomForestRegressor(8, max_depth=6, random_state=0),
    "histogram": HistGradientBoostingClassifier(max_iter=8),
    "histogram number": HistGradientBoostingRegressor(max_iter=8),
    "histogram poisson": HistGradientBoostingRegressor(max_iter=8, loss="poisson"),
    "lightgbm": lightgbm.LGBMClassifier(**LGB),
    "lightgbm number": lightgbm.LGBMRegressor(**LGB),
    "lightgbm zero": lightgbm.LGBMRegressor(**LGB, zero_as_missing=True),
    "lightgbm poisson": lightgbm.LGBMRegressor(**LGB, objective="poisson"),
    "lightgbm forest": lightgbm.LGBMClassifier(**LGB, boosting_type="rf", bagging_freq=1, bagging_fraction=0.7),
    "xgboost": xgboost.XGBClassifier(**XGB),
    "xgboost number": xgboost.XGBRegressor(**XGB),
    "xgboost dart": xgboost.XGBClassifier(**XGB, booster="dart", rate_drop=0.3),
    "xgboost poisson": xgboost.XGBRegressor(**XGB, objective="count:poisson"),
}


def data_for(name: str, labels: str) -> tuple[Any, Any]:
    if labels == "three":
        x, y = load_digits(return_X_y=True)
        return x[:, 18:46], y % 3
    x, y = load_breast_cancer(return_X_y=True)
    return (x, y) if labels == "two" else (x[:, 1:], x[:, 0])


def is_number(name: str) -> bool:
    return "number" in name or "poisson" in name or name in ("linear", "ridge", "gaps forest", "lightgbm zero")


CASES = [
    (name, labels) for name in (*PLAIN, *WITH_GAPS) for labels in (("number",) if is_number(name) else ("two", "three"))
]


def borders(formula: Formula, rows: Any, random: np.random.Generator) -> Any:
    """Rows whose values lie on thresholds, and one step of float32 and float64 beside them."""
    thresholds = [
        (tree.feature[node], tree.threshold[node])
        for _, tree in formula.trees
        for node in range(len(tree.feature))
        if tree.left[node] >= 0 and node not in tree.sets and abs(tree.threshold[node]) < 1e30
    ]
    if not thresholds or formula.steps:
        return rows[:0]
    made = rows[random.integers(0, len(rows), 900)].copy()
    for place, row in enumerate(made):
        for column, value in (thresholds[random.integers(len(thresholds))] for _ in range(6)):
            near = [value, np.nextafter(value, np.inf), np.nextafter(value, -np.inf), float(np.float32(value))]
            row[column] = near[place % 4]
    return made


class Compiled:
    """A model as a shared library."""

    def __init__(self, source: str, folder: Path, classes: Any) -> None:
        (folder / "model.c").write_text(source)
        command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Wno-unused", "-Werror", "-O1", "-shared", "-fPIC"]
        subprocess.run([*command, "model.c", "-o", "model.so", "-lm"], cwd=folder, check=True)
        self.library = ctypes.CDLL(str(folder / "model.so"))
        self.library.model_code.restype = ctypes.c_double
        self.classes = classes

    def score(self, rows: Any) -> tuple[list[Any], Any]:
        width = 1 if self.classes is None else max(len(self.classes), 2)
        answers = (ctypes.c_double * width)()
        predictions, table = [], []
        for row in np.ascontiguousarray(rows, dtype=np.float64):
            best = self.library.model_predict(row.ctypes.data_as(ctypes.POINTER(ctypes.c_double)), answers)
            if best < 0:
                raise ValueError("missing")
            predictions.append(answers[0] if self.classes is None else self.classes[best])
            table.append(list(answers))
        return predictions, np.asarray(table)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("name", "labels"), CASES, ids=lambda each: str(each).replace(" ", "_"))
def test_python_and_c_decide_like_the_model(name: str, labels: str, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    x, y = data_for(name, labels)
    if name in WITH_GAPS:
        x = np.where(random.random(x.shape) < 0.08, np.nan, x)
    fitted = clone((PLAIN | WITH_GAPS)[name]).fit(x, y)
    model = Model(fitted, example=x)
    more = x[random.integers(0, len(x), 700)] * random.normal(1, 0.05, (700, x.shape[1]))
    rows = np.vstack([x, more, borders(formula_of(fitted, model.signature), x, random)])
    assert len(rows) >= 1_000
    expected = model.score(rows)

    names: dict[str, Any] = {}
    exec(export_python(model), names)
    compiled = Compiled(export_c(model), tmp_path, model.signature.classes)
    found, table = compiled.score(rows)
    some = rows[:: max(len(rows) // 400, 1)]
    plain = [names["predict"](row.tolist()) for row in some]
    if model.signature.classes is None:
        np.testing.assert_allclose(found, expected.prediction, rtol=2e-6)
        np.testing.assert_allclose(plain, model.predict(some), rtol=2e-6)
        return
    assert found == expected.prediction.tolist()
    assert plain == model.predict(some).tolist()
    if expected.probabilities is not None:
        np.testing.assert_allclose(table, expected.probabilities, atol=2e-6)
        np.testing.assert_allclose([names["predict_proba"](row) for row in some], model.predict_proba(some), atol=2e-6)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_categories_are_texts_in_python_and_codes_in_c(library: str, tmp_path: Path, store: Store) -> None:
    random = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "temp": random.normal(size=1_100),
            "sky": pd.Categorical(random.choice(["clear", 'a "b"', "snöw", "fog", "hail"], 1_100)),
        }
    )
    frame.loc[::10, "sky"] = None
    y = ((frame["sky"].isin(["fog", "snöw"])).astype(int) + (frame["temp"] > 0)).clip(0, 1)
    settings = {**XGB, "enable_categorical": True, "max_cat_to_onehot": 1}
    fitted = (lightgbm.LGBMClassifier(**LGB) if library == "lightgbm" else xgboost.XGBClassifier(**settings)).fit(
        frame, y
    )
    bundle = save_bundle(store, Model(fitted, example=frame), rows=frame)
    formula = formula_of(fitted, bundle.manifest.signature, bundle.manifest.adapter.categories)
    assert any(tree.sets for _, tree in formula.trees)
    names: dict[str, Any] = {}
    exec(export_python(bundle), names)
    compiled = Compiled(export_c(bundle), tmp_path, [0, 1])
    texts = pl.from_pandas(frame.assign(sky=frame["sky"].astype(object)))
    rows = [*texts.iter_rows(), (0.1, "never seen")]
    coded = [[temp, np.nan if sky is None else compiled.library.model_code(1, sky.encode())] for temp, sky in rows]
    expected = bundle.scorer(library).score_rows(rows)
    assert compiled.score(np.asarray(coded))[0] == expected.prediction.tolist()
    assert [names["predict"](row) for row in rows] == expected.prediction.tolist()


def test_a_small_bundle_of_scikit_learn_is_exported_from_its_native_form(store: Store) -> None:
    data = load_diabetes()
    model = Model(Ridge().fit(data.data, data.target), example=data.data)
    bundle = save_bundle(store, model, rows=data.data)
    assert [entry.name for entry in bundle.manifest.formats] == ["onnx", "skops"]
    names: dict[str, Any] = {}
    exec(export_python(bundle), names)
    assert names["predict"](data.data[0].tolist()) == pytest.approx(model.predict(data.data[:1])[0])
    alone = save_bundle(store, model, rows=data.data, formats=["onnx"])
    with pytest.raises(UnsupportedFormat, match="native form"):
        export_c(alone)


def test_a_missing_value_is_refused_where_the_model_refuses_it(tmp_path: Path) -> None:
    data = load_diabetes()
    model = Model(LinearRegression().fit(data.data, data.target), example=data.data)
    names: dict[str, Any] = {}
    exec(export_python(model), names)
    row = [None, *data.data[0, 1:].tolist()]
    with pytest.raises(ValueError, match="missing"):
        names["predict"](row)
    with pytest.raises(ValueError, match="takes 10"):
        names["predict"](row[1:])
    with pytest.raises(ValueError, match="missing"):
        Compiled(export_c(model), tmp_path, None).score(from_rows(model.signature, [row]).to_numpy())


def test_what_cannot_be_written_is_said() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    for estimator, why in (
        (KNeighborsClassifier().fit(x, y), "its kind is unknown"),
        (make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(x, y), "its kind is unknown"),
        (GradientBoostingClassifier(n_estimators=2, loss="exponential").fit(x, y), "exponential"),
        (xgboost.XGBClassifier(booster="gblinear", n_estimators=2).fit(x, y), "linear booster"),
        (
            xgboost.XGBClassifier(n_estimators=700, max_depth=6, min_child_weight=0).fit(x, np.arange(len(x)) % 2),
            "nodes",
        ),
    ):
        with pytest.raises(UnsupportedFormat, match=why):
            export_python(Model(estimator, example=x))
