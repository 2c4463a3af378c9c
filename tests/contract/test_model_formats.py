"""Every model format of ours keeps the promises of the seam."""

from __future__ import annotations

import pytest

from tidewheel.models.format import ModelFormat
from tidewheel.models.model import Model
from tidewheel.models.onnx_format import OnnxFormat
from tidewheel.models.pickle_format import PickleFormat
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


class TestMemory(ModelFormatContract):
    @pytest.fixture
    def form(self) -> ModelFormat:
        return MemoryFormat()
