"""Exact Shapley values of linear models: each coefficient times the distance of its feature from the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidewheel.explaining.records import Contributions, Floats, Method, Output


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearShap:
    """Values of a model that is a weighted sum (Štrumbelj & Kononenko 2014, section 3.1), features as independent."""

    weights: Floats  # [features, outputs]
    constant: Floats  # [outputs]
    means: Floats  # [features] of the training rows
    output: Output  # what is made up
    method: Method = "linear"  # exact

    def explain_row(self, row: Sequence[Any], deadline: float) -> Contributions:
        """Explain one row."""
        del deadline
        found = np.asarray(row, dtype=np.float64)
        return Contributions(
            base=self.constant + self.means @ self.weights,
            values=(found - self.means)[:, np.newaxis] * self.weights,
            errors=np.zeros(self.weights.shape),
            answer=self.constant + found @ self.weights,
            complete=True,
        )


def fit_weights(rows: Floats, answers: Floats) -> tuple[Floats, Floats]:
    """Return weights [features, outputs] and constants [outputs] that reproduce the answers to some rows best."""
    middle, spread = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    table = np.column_stack([(rows - middle) / scale, np.ones(len(rows))])
    found = np.linalg.lstsq(table, answers, rcond=None)[0]
    weights = found[:-1] / scale[:, np.newaxis]
    return weights, found[-1] - middle @ weights
