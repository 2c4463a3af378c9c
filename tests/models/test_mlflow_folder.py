"""MLflow directories: the real MLflow loads what we write and scores it alike, we read what it writes."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import mlflow.lightgbm
import mlflow.onnx
import mlflow.sklearn
import mlflow.xgboost
import numpy as np
import onnx
import pandas as pd
import polars as pl
import pytest
import xgboost
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tidewheel.errors import InvalidInput, NotFound, UnsupportedFormat
from tidewheel.lineage.store import Store
from tidewheel.models import read_mlflow, write_mlflow
from tidewheel.models.bundle import save_bundle
from tidewheel.models.model import Model
from tidewheel.models.onnx_format import OnnxFormat

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=["a", "b", "c"])
LABEL = (FRAME["a"] + FRAME["b"] > 0).astype(int)


def fitted(name: str) -> Any:
    lgb = lightgbm.LGBMClassifier(n_estimators=4, verbose=-1, n_jobs=1)
    xgb = xgboost.XGBClassifier(n_estimators=4, n_jobs=1)
    made: dict[str, Any] = {
        "ridge": lambda: Ridge().fit(FRAME, FRAME["a"]),
        "logistic": lambda: LogisticRegression().fit(FRAME, LABEL),
        "lightgbm": lambda: lgb.fit(FRAME, LABEL),
        "lightgbm booster": lambda: lgb.fit(FRAME, LABEL).booster_,
        "xgboost": lambda: xgb.fit(FRAME, LABEL),
        "xgboost booster": lambda: xgb.fit(FRAME, LABEL).get_booster(),
    }
    return made[name]()


def own_answer(estimator: Any, frame: pd.DataFrame) -> Any:
    return estimator.predict(xgboost.DMatrix(frame) if isinstance(estimator, xgboost.Booster) else frame)


NAMES = ["ridge", "logistic", "lightgbm", "lightgbm booster", "xgboost", "xgboost booster"]


@pytest.mark.parametrize("name", NAMES)
def test_mlflow_loads_what_is_written_and_answers_alike(name: str, tmp_path: Path) -> None:
    estimator = fitted(name)
    place = write_mlflow(Model(estimator, example=FRAME), tmp_path / "model", example=FRAME)
    loaded = mlflow.pyfunc.load_model(str(place))
    np.testing.assert_array_equal(loaded.predict(FRAME), own_answer(estimator, FRAME))
    assert [column.name for column in loaded.metadata.get_input_schema()] == ["a", "b", "c"]
    pd.testing.assert_frame_equal(loaded.input_example, FRAME.head(8))
    assert not list(place.glob("*.pkl"))
    assert {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt"} <= {each.name for each in place.iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_what_mlflow_writes_is_read_and_answers_alike(name: str, tmp_path: Path, store: Store) -> None:
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    estimator = fitted(name)
    library: Any = getattr(mlflow, name.partition(" ")[0], mlflow.sklearn)
    folder = str(tmp_path / "model")
    signature = infer_signature(FRAME, LABEL)
    library.save_model(estimator, folder, signature=signature, input_example=FRAME.head(5), pip_requirements=["mlflow"])
    model = read_mlflow(folder)
    assert model.signature.names == ["a", "b", "c"]
    direct = Model(estimator, example=FRAME)
    np.testing.assert_array_equal(model.predict(FRAME), direct.predict(FRAME))
    assert save_bundle(store, model, rows=FRAME).scorer().score(pl.from_pandas(FRAME)).prediction.shape == (300,)


def test_text_columns_and_bundles_go_as_well(tmp_path: Path, store: Store) -> None:
    frame = FRAME.assign(sky=np.where(FRAME["b"] > 0.3, "clear", "rain"))
    pipeline = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["sky"]), remainder="passthrough"), LogisticRegression()
    ).fit(frame, np.where(LABEL == 1, "yes", "no"))
    bundle = save_bundle(store, Model(pipeline, example=frame), rows=frame)
    loaded = mlflow.pyfunc.load_model(str(write_mlflow(bundle, tmp_path / "model")))
    assert loaded.predict(frame).tolist() == pipeline.predict(frame).tolist()
    assert loaded.metadata.get_input_schema().input_types()[3].name == "string"
    again = read_mlflow(tmp_path / "model")
    assert again.predict(frame).tolist() == pipeline.predict(frame).tolist()


def test_an_onnx_directory_is_read_and_written(tmp_path: Path, store: Store) -> None:
    estimator = fitted("logistic")
    data = next(OnnxFormat().candidates(Model(estimator, example=FRAME)))
    mlflow.onnx.save_model(
        onnx.load_from_string(data), str(tmp_path / "theirs"), input_example=FRAME.head(5), pip_requirements=["mlflow"]
    )
    model = read_mlflow(tmp_path / "theirs", example=FRAME)
    assert (model.signature.task, model.signature.classes) == ("binary", [0, 1])
    bundle = save_bundle(store, model, rows=FRAME)
    assert bundle.manifest.formats[0].name == "onnx"
    np.testing.assert_array_equal(bundle.scorer().score(pl.from_pandas(FRAME)).prediction, estimator.predict(FRAME))
    loaded = mlflow.pyfunc.load_model(str(write_mlflow(model, tmp_path / "ours", example=FRAME)))
    np.testing.assert_array_equal(loaded.predict(FRAME).iloc[:, 0], estimator.predict(FRAME))


def test_a_pickle_needs_trust_and_a_foreign_flavour_is_named(tmp_path: Path) -> None:
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    folder = str(tmp_path / "pickled")
    mlflow.sklearn.save_model(
        fitted("ridge"),
        folder,
        serialization_format="cloudpickle",
        input_example=FRAME.head(3),
        pip_requirements=["mlflow"],
    )
    with pytest.raises(UnsupportedFormat, match="trust=True"):
        read_mlflow(folder)
    assert read_mlflow(folder, trust=True).signature.task == "regression"
    with pytest.raises(NotFound, match="MLmodel"):
        read_mlflow(tmp_path)
    (tmp_path / "MLmodel").write_text("flavors: {spark: {}}")
    with pytest.raises(UnsupportedFormat, match="spark"):
        read_mlflow(tmp_path)
    with pytest.raises(InvalidInput, match="not empty"):
        write_mlflow(Model(fitted("ridge"), example=FRAME), tmp_path)
    bare = write_mlflow(Model(fitted("ridge"), example=FRAME), tmp_path / "bare")
    with pytest.raises(InvalidInput, match="example=rows"):
        read_mlflow(bare)


def test_reading_needs_no_mlflow(tmp_path: Path) -> None:
    place = write_mlflow(Model(fitted("ridge"), example=FRAME), tmp_path / "model", example=FRAME)
    code = (
        "import sys; from tidewheel.models import read_mlflow; "
        f"print(read_mlflow({str(place)!r}).signature.names, 'mlflow' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['a', 'b', 'c'] False"
