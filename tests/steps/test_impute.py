"""Filled values are scikit-learn's; what was learnt once is applied to all other rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.steps.impute import Strategy, fit_imputer, impute

CELLS = st.one_of(st.none(), st.just(float("nan")), st.integers(-50, 50).map(float))


@given(train=st.lists(CELLS, min_size=1, max_size=40), other=st.lists(CELLS, max_size=10))
@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_numbers_are_filled_as_scikit_learn_does(strategy: Strategy, train: list[Any], other: list[Any]) -> None:
    known = np.array([np.nan if cell is None else cell for cell in train]).reshape(-1, 1)
    assume(not np.isnan(known).all())
    oracle = SimpleImputer(strategy=strategy).fit(known)
    imputer = fit_imputer(pl.DataFrame({"x": pl.Series(train, dtype=pl.Float64)}), strategy=strategy)
    for cells in (train, other):
        got = impute(pl.DataFrame({"x": pl.Series(cells, dtype=pl.Float64)}), imputer)["x"]
        raw = np.array([np.nan if cell is None else cell for cell in cells], dtype=float).reshape(-1, 1)
        wanted = oracle.transform(raw).ravel() if cells else np.array([])
        np.testing.assert_allclose(got.to_numpy(), wanted, rtol=1e-12, atol=1e-12)


@given(train=st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1, max_size=30))
def test_texts_are_filled_as_scikit_learn_does(train: list[str | None]) -> None:
    assume(any(train))
    oracle = SimpleImputer(strategy="most_frequent", missing_values=None)
    wanted = oracle.fit_transform(np.array(train, dtype=object).reshape(-1, 1)).ravel().tolist()
    rows = pl.DataFrame({"sky": pl.Series(train, dtype=pl.String)})
    assert impute(rows, fit_imputer(rows, strategy="most_frequent"))["sky"].to_list() == wanted


def test_the_types_that_come_out_do_not_depend_on_the_rows() -> None:
    train = pl.DataFrame({"hour": [1, 2, 4, None], "day": [1, 2, 3, 4]})
    imputer = fit_imputer(train, strategy="mean", mark=True)
    whole, gaps = impute(train.drop_nulls(), imputer), impute(train.with_columns(day=pl.lit(None)), imputer)
    assert whole.schema == gaps.schema
    assert whole.columns == ["hour", "day", "hour_missing", "day_missing"]
    assert gaps["day"].to_list() == [2.5] * 4
    assert gaps["hour_missing"].to_list() == [False, False, False, True]
    assert fit_imputer(train, strategy="most_frequent").values == {"hour": 1, "day": 1}


def test_the_label_is_left_alone_and_a_constant_is_as_given() -> None:
    rows = pl.DataFrame({"x": [None, 1.0], "y": [None, 2.0], "sky": [None, "rain"]})
    assert list(fit_imputer(rows, label="y").values) == ["x"]
    assert list(fit_imputer(rows, strategy="most_frequent", label="y").values) == ["x", "sky"]
    filled = impute(rows, fit_imputer(rows, ["sky"], "constant", constant="unknown"))
    assert filled["sky"].to_list() == ["unknown", "rain"]
    nothing = pl.DataFrame({"x": [None, None]})
    assert impute(nothing, fit_imputer(nothing, ["x"], "constant", constant=0.0))["x"].to_list() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("rows", "options", "hint"),
    [
        ({"x": [1.0]}, {"strategy": "guess"}, "guess"),
        ({"x": [1.0]}, {"strategy": "constant"}, "do not go together"),
        ({"x": [1.0]}, {"constant": 3}, "do not go together"),
        ({"x": pl.Series([None, float("nan")], dtype=pl.Float64)}, {}, "no value at all"),
        ({"sky": ["rain"]}, {"columns": ["sky"]}, "not numbers"),
        ({"sky": ["rain"]}, {}, "No numeric column"),
        ({"x": pl.Series([], dtype=pl.Float64)}, {}, "0 rows"),
    ],
)
def test_bad_input_is_refused(rows: dict[str, Any], options: dict[str, Any], hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        fit_imputer(pl.DataFrame(rows), **options)


def test_rows_that_do_not_fit_the_imputer_are_refused() -> None:
    imputer = fit_imputer(pl.DataFrame({"x": [1.5, 2.5]}))
    with pytest.raises(NotFound, match="x"):
        impute(pl.DataFrame({"y": [1.0]}), imputer)
    with pytest.raises(InvalidInput, match="cannot be filled"):
        impute(pl.DataFrame({"x": pl.Series([None], dtype=pl.Date)}), imputer)
    kinds = pl.DataFrame({"kind": pl.Series(["a", None], dtype=pl.Enum(["a", "b"]))})
    with pytest.raises(InvalidInput, match="cannot be filled"):
        impute(kinds, fit_imputer(kinds, ["kind"], "constant", constant="c"))


def test_every_type_is_kept_where_it_can_hold_the_value() -> None:
    rows = pl.DataFrame(
        {
            "kind": pl.Series(["a", None, "a"], dtype=pl.Enum(["a", "b"])),
            "mark": pl.Series(["u", None, "v"], dtype=pl.Categorical),
            "wet": [True, None, True],
            "day": [1, None, 3],
        }
    )
    filled = impute(rows, fit_imputer(rows, strategy="most_frequent"))
    assert filled.schema == rows.schema
    assert filled.row(1) == ("a", "u", True, 1)
    assert impute(rows, fit_imputer(rows, ["day"], "constant", constant=0.5))["day"].to_list() == [1.0, 0.5, 3.0]
