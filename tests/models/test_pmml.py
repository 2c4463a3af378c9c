"""PMML, scored back by JPMML, the reference evaluator."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tidewheel.errors import UnsupportedFormat
from tidewheel.models import export_pmml
from tidewheel.models.model import Model

NAMES = [f"f{place}" for place in range(30)]


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which("java") is None:
        pytest.skip("Java is absent; on Debian and Ubuntu: apt-get install default-jre-headless")
    from jpmml_evaluator import make_evaluator

    def load(text: str) -> Any:
        place = Path(tmp_path_factory.mktemp("pmml")) / "model.pmml"
        place.write_text(text, "utf-8")
        return make_evaluator(str(place)).verify()

    return load


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["two", "three", "number"])
def test_jpmml_answers_like_the_model(labels: str, evaluator: Any) -> None:
    random = np.random.default_rng(1)
    x, y = load_breast_cancer(return_X_y=True)
    frame = pd.DataFrame(np.vstack([x, x * random.normal(1, 0.02, x.shape)]), columns=NAMES)
    label = {"two": np.tile(y, 2), "three": np.tile(y, 2) + (frame["f1"] > 20), "number": frame["f0"] * 2}[labels]
    gaps = frame.mask(pd.DataFrame(random.random(frame.shape) < 0.05, columns=NAMES))
    numbers: list[tuple[Any, Any]] = [
        (make_pipeline(SimpleImputer(), StandardScaler(), LinearRegression()), gaps),
        (GradientBoostingRegressor(n_estimators=3), frame),
        (lightgbm.LGBMRegressor(n_estimators=3, verbose=-1, n_jobs=1, objective="poisson"), gaps),
        (xgboost.XGBRegressor(n_estimators=3, n_jobs=1, max_depth=3), gaps),
    ]
    classifiers: list[tuple[Any, Any]] = [
        (make_pipeline(StandardScaler(), LogisticRegression()), frame),
        (RandomForestClassifier(3, max_depth=4, random_state=0), frame),
        (HistGradientBoostingClassifier(max_iter=3), gaps),
        (lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1), gaps),
        (xgboost.XGBClassifier(n_estimators=3, n_jobs=1, max_depth=3), gaps),
    ]
    for estimator, rows in numbers if labels == "number" else classifiers:
        model = Model(estimator.fit(rows, label), example=rows)
        answer = evaluator(export_pmml(model)).evaluateAll(rows)
        assert len(answer) >= 1_000
        if labels == "number":
            np.testing.assert_allclose(answer["target"].astype(float), model.predict(rows), rtol=1e-5)
            continue
        table = answer[[f"probability({each})" for each in model.signature.classes or ()]].to_numpy(dtype=float)
        np.testing.assert_allclose(table, model.predict_proba(rows), atol=1e-5)
        decided = np.asarray(model.signature.classes)[table.argmax(axis=1)]
        np.testing.assert_array_equal(decided, model.predict(rows))


def test_what_has_no_probabilities_is_no_pmml() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    with pytest.raises(UnsupportedFormat, match="link sign"):
        export_pmml(Model(SGDClassifier(random_state=0).fit(x, y), example=x))
