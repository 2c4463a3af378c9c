"""Scaled values are scikit-learn's, for the rows learnt from and for others."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.steps.scale import Method, fit_scaler, scale

ORACLES = {"standard": StandardScaler, "range": MinMaxScaler, "robust": RobustScaler}
NUMBERS = st.lists(st.integers(-1000, 1000), min_size=2, max_size=50)


@given(train=NUMBERS, other=NUMBERS)
@pytest.mark.parametrize("method", ORACLES)
def test_numbers_are_scaled_as_scikit_learn_does(method: Method, train: list[int], other: list[int]) -> None:
    lower, upper = np.percentile(train, [25, 75])
    assume(len(set(train)) > 1 and (method != "robust" or upper > lower))
    oracle = ORACLES[method]().fit(np.array(train, dtype=float).reshape(-1, 1))
    scaler = fit_scaler(pl.DataFrame({"x": train}), method=method)
    for values in (train, other):
        got = scale(pl.DataFrame({"x": values}), scaler)["x"].to_numpy()
        wanted = oracle.transform(np.array(values, dtype=float).reshape(-1, 1)).ravel()
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_texts_the_label_and_gaps_are_left_alone() -> None:
    rows = pl.DataFrame({"x": [1, 3], "sky": ["a", "b"], "y": [5.0, 6.0]})
    scaler = fit_scaler(rows, label="y", method="range")
    assert list(scaler.centre) == ["x"]
    assert scale(rows.with_columns(x=pl.Series([None, 3])), scaler).rows() == [(None, "a", 5.0), (1.0, "b", 6.0)]


@pytest.mark.parametrize(
    ("values", "method", "hint"),
    [
        ([3.0, 3.0], "standard", "3 in every row"),
        ([0.0, 1.0, 1.0, 1.0, 1.0, 2.0], "robust", "no robust spread"),
        ([1.0, None], "standard", "1 of 2 values"),
        ([1.0, float("nan")], "range", "1 of 2 values"),
        ([1.0, float("inf")], "standard", "infinite"),
        ([], "standard", "0 rows"),
        ([1.0, 2.0], "log", "no scale"),
    ],
)
def test_bad_input_is_refused(values: list[Any], method: Any, hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        fit_scaler(pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)}), method=method)


def test_rows_that_do_not_fit_the_scaler_are_refused() -> None:
    scaler = fit_scaler(pl.DataFrame({"x": [1, 2]}))
    with pytest.raises(NotFound, match="x"):
        scale(pl.DataFrame({"z": [1]}), scaler)
    with pytest.raises(InvalidInput, match="not numbers"):
        scale(pl.DataFrame({"x": ["1"]}), scaler)
