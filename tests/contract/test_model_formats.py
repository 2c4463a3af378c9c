"""Every model format of ours keeps the promises of the seam."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tidewheel.models.booster_format import BoosterFormat
from tidewheel.models.format import ModelFormat
from tidewheel.models.model import Model
from tidewheel.models.onnx_format import OnnxFormat
from tidewheel.models.pickle_format import PickleFormat
from tidewheel.models.pt2_format import Pt2Format
from tidewheel.models.skops_format import SkopsFormat
from tidewheel.testing.model_formats import MemoryFormat, ModelFormatContract


class TestOnnx(ModelFormatContract):
    @pytest.fixture
    def form(self) -> ModelFormat:
        return OnnxFormat()


class TestSkops(ModelFormatContract):
    @pytest.fixture
    def form(self) -> ModelFormat:
        return SkopsFormat()


class TestPickle(ModelFormatContract):
    @pytest.fixture
    def form(self) -> ModelFormat:
        return PickleFormat()

    @pytest.fixture(params=["regression"])
    def model(self, request: pytest.FixtureRequest) -> Model:
        from sklearn.linear_model import LinearRegression

        rows = self.rows()
        fitted = LinearRegression().fit(rows, rows["a"].to_numpy() + rows["b"].to_numpy())
        return Model(fitted, example=rows, trust=True)


class TestLightgbm(ModelFormatContract):
    @pytest.fixture
    def form(self) -> ModelFormat:
        return BoosterFormat(name="lightgbm")

    @pytest.fixture(params=["regression", "multiclass"])
    def model(self, request: pytest.FixtureRequest) -> Model:
        import lightgbm

        rows = self.rows()
        settings: dict[str, Any] = {"n_estimators": 4, "verbose": -1, "n_jobs": 1}
        total = (rows["a"] + rows["b"]).to_numpy()
        if request.param == "regression":
            return Model(lightgbm.LGBMRegressor(**settings).fit(rows.to_numpy(), total), example=rows)
        labels = np.digitize(total, [-0.5, 0.5])
        return Model(lightgbm.LGBMClassifier(**settings).fit(rows.to_numpy(), labels), example=rows)


class TestXgboost(ModelFormatContract):
    @pytest.fixture
    def form(self) -> ModelFormat:
        return BoosterFormat(name="xgboost")

    @pytest.fixture(params=["regression", "multiclass"])
    def model(self, request: pytest.FixtureRequest) -> Model:
        import xgboost

        rows = self.rows()
        settings: dict[str, Any] = {"n_estimators": 4, "max_depth": 2, "n_jobs": 1}
        total = (rows["a"] + rows["b"]).to_numpy()
        if request.param == "regression":
            return Model(xgboost.XGBRegressor(**settings).fit(rows, total), example=rows)
        return Model(xgboost.XGBClassifier(**settings).fit(rows, np.digitize(total, [-0.5, 0.5])), example=rows)


class TestPt2(ModelFormatContract):
    @pytest.fixture
    def form(self) -> ModelFormat:
        pytest.importorskip("torch", reason="PyTorch is absent; install it with: pip install torch==2.13.0")
        return Pt2Format()

    @pytest.fixture(params=[1, 3])
    def model(self, request: pytest.FixtureRequest) -> Model:
        torch = pytest.importorskip("torch", reason="PyTorch is absent; install it with: pip install torch==2.13.0")
        torch.manual_seed(0)
        return Model(torch.nn.Linear(2, request.param).eval(), example=self.rows())


class TestMemory(ModelFormatContract):
    @pytest.fixture
    def form(self) -> ModelFormat:
        return MemoryFormat()
