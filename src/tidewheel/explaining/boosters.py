"""Exact contributions that LightGBM and XGBoost compute themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidewheel.explaining.records import Contributions, Floats, Method, Output
from tidewheel.models.boosters import library_of, to_codes
from tidewheel.models.frames import Adapter
from tidewheel.models.signature import Signature, from_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BoosterShap:
    """`pred_contrib` of LightGBM, `pred_contribs` of XGBoost: path-dependent tree values, in margins for classes."""

    booster: Any  # of either library
    signature: Signature  # inputs
    adapter: Adapter  # levels of categorical columns
    output: Output  # what is made up
    method: Method = "booster"  # exact

    def explain_row(self, row: Sequence[Any], deadline: float) -> Contributions:
        """Explain one row."""
        del deadline
        matrix = to_codes(self.signature, from_rows(self.signature, [row]), self.adapter.categories)
        found = self._contributions(matrix)
        return Contributions(
            base=found[-1],
            values=found[:-1],
            errors=np.zeros(found[:-1].shape),
            answer=found.sum(axis=0),
            complete=True,
        )

    def _contributions(self, matrix: Floats) -> Floats:
        """Return [features + 1, outputs], the base last."""
        width = matrix.shape[1] + 1
        if library_of(self.booster) == "lightgbm":
            found = np.asarray(self.booster.predict(matrix, pred_contrib=True, num_threads=1))
            return np.asarray(found.reshape(-1, width).T)
        import xgboost

        names, kinds = self.booster.feature_names, self.booster.feature_types
        data = xgboost.DMatrix(
            matrix.astype(np.float32), feature_names=names, feature_types=kinds, enable_categorical=True, nthread=1
        )
        found = np.asarray(self.booster.predict(data, pred_contribs=True), dtype=np.float64)
        return np.asarray(found.reshape(-1, width).T)
