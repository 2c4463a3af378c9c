"""Codes are scikit-learn's; unseen categories are an error or ignored as was asked; no row is told its own label."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.steps.one_hot import fit_one_hot, one_hot
from tidewheel.steps.ordinal import fit_ordinal, ordinal
from tidewheel.steps.target_encode import fit_target_encoder, target_encode

TEXTS = st.lists(st.sampled_from(["a", "b", "cc", "ä", "", " "]), min_size=2, max_size=40)


@given(train=TEXTS, other=TEXTS)
def test_categories_are_coded_as_scikit_learn_does(train: list[str], other: list[str]) -> None:
    assume(len(set(train)) > 1)
    rows, later = pl.DataFrame({"sky": train}), pl.DataFrame({"sky": other})
    column = np.array(train, dtype=object).reshape(-1, 1)
    new = np.array(other, dtype=object).reshape(-1, 1)
    wide = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(column)
    narrow = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(column)
    np.testing.assert_array_equal(one_hot(later, fit_one_hot(rows, unseen="ignore")).to_numpy(), wide.transform(new))
    np.testing.assert_array_equal(ordinal(later, fit_ordinal(rows, unseen="ignore")).to_numpy(), narrow.transform(new))


def test_columns_stand_where_they_stood_and_others_are_left_alone() -> None:
    rows = pl.DataFrame({"a": [1.0, 2.0], "sky": ["x", "y"], "wet": [True, False], "y": ["u", "v"]})
    encoder = fit_one_hot(rows, label="y")
    assert one_hot(rows, encoder).columns == ["a", "sky=x", "sky=y", "wet=false", "wet=true", "y"]
    assert one_hot(rows.clear(), encoder).schema == one_hot(rows, encoder).schema
    assert ordinal(rows, fit_ordinal(rows, ["sky"], order={"sky": ["y", "x"]}))["sky"].to_list() == [1, 0]
    coded = rows.select(pl.col("sky").cast(pl.Enum(["y", "x"])), pl.col("a").cast(pl.Int64))
    assert fit_ordinal(coded, ["sky", "a"]).categories == {"sky": ("x", "y"), "a": ("1", "2")}


@pytest.mark.parametrize("gone", ["z", None])
def test_what_was_not_seen_is_refused_or_ignored(gone: str | None) -> None:
    rows, later = pl.DataFrame({"sky": ["x", "y"]}), pl.DataFrame({"sky": pl.Series([gone, "x"], dtype=pl.String)})
    with pytest.raises(InvalidInput, match="1 of 2 values of 'sky'"):
        one_hot(later, fit_one_hot(rows))
    with pytest.raises(InvalidInput, match="1 of 2 values of 'sky'"):
        ordinal(later, fit_ordinal(rows))
    assert one_hot(later, fit_one_hot(rows, unseen="ignore")).rows() == [(0, 0), (1, 0)]
    assert ordinal(later, fit_ordinal(rows, unseen="ignore"))["sky"].to_list() == [-1, 0]


@pytest.mark.parametrize("fitted", [fit_one_hot, fit_ordinal])
@pytest.mark.parametrize(
    ("values", "hint"),
    [
        (["x", "x"], "1 categories"),
        (["x", None], "1 of 2 values"),
        ([str(number) for number in range(1001)], "1001 categories"),
        ([], "0 rows"),
    ],
)
def test_columns_that_say_nothing_are_refused(fitted: Any, values: list[Any], hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        fitted(pl.DataFrame({"sky": pl.Series(values, dtype=pl.String)}))


def test_wrong_wishes_are_refused() -> None:
    rows = pl.DataFrame({"sky": ["x", "y"], "a": [1.5, 2.5], "sky=x": [1, 2]})
    with pytest.raises(NotFound, match="sky"):
        fit_one_hot(rows, ["skye"])
    with pytest.raises(InvalidInput, match="no categories"):
        fit_one_hot(rows, ["a"])
    with pytest.raises(InvalidInput, match="unseen='zero'"):
        fit_one_hot(rows, ["sky"], unseen="zero")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="lacks"):
        fit_ordinal(rows, ["sky"], order={"sky": ["x"]})
    with pytest.raises(InvalidInput, match="stand twice"):
        one_hot(rows, fit_one_hot(rows, ["sky"]))


LABELLED = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), min_size=6, max_size=60)


@given(pairs=LABELLED, smooth=st.floats(0.1, 50), seed=st.integers(0, 99))
def test_category_means_are_scikit_learns(pairs: list[tuple[str, int]], smooth: float, seed: int) -> None:
    categories, truth = zip(*pairs, strict=True)
    assume(len(set(truth)) > 1)
    rows = pl.DataFrame({"town": categories, "y": truth})
    _, encoder = fit_target_encoder(rows, "y", smooth=smooth, seed=seed)
    oracle = TargetEncoder(target_type="continuous", smooth=smooth).fit(
        np.array(categories, dtype=object).reshape(-1, 1), np.array(truth, dtype=float)
    )
    ours = target_encode(pl.DataFrame({"town": ["a", "b", "c", "d", "z"]}), encoder)["town"].to_numpy()
    wanted = oracle.transform(np.array(["a", "b", "c", "d", "z"], dtype=object).reshape(-1, 1)).ravel()
    np.testing.assert_allclose(ours, wanted, rtol=1e-9)


@given(pairs=LABELLED, row=st.integers(0, 5), seed=st.integers(0, 99))
def test_no_row_is_told_its_own_label(pairs: list[tuple[str, int]], row: int, seed: int) -> None:
    categories, truth = zip(*pairs, strict=True)
    other = [*truth[:row], truth[row] + 1000, *truth[row + 1 :]]
    assume(len(set(truth)) > 1)
    told = [
        fit_target_encoder(pl.DataFrame({"town": categories, "y": labels}), "y", seed=seed)[0]["town"]
        for labels in (truth, other)
    ]
    assert told[0][row] == told[1][row]


def test_what_has_no_mean_is_refused() -> None:
    rows = pl.DataFrame({"town": ["a", "b", "a"], "y": [1, 1, 1], "kind": ["u", "v", "u"], "z": [1.0, None, 2.0]})
    for label, hint in (("y", "1 in every row"), ("kind", "no mean"), ("z", "missing")):
        with pytest.raises(InvalidInput, match=hint):
            fit_target_encoder(rows, label, ["town"], folds=2)
    for options in ({"folds": 4}, {"folds": 1}, {"smooth": -1.0}):
        with pytest.raises(InvalidInput, match="do not fit 3 rows"):
            fit_target_encoder(rows.with_columns(y=pl.Series([1, 2, 3])), "y", ["town"], **options)


def test_booleans_count_as_labels_and_several_columns_are_coded_at_once() -> None:
    rows = pl.DataFrame({"a": ["x", "y"] * 5, "b": ["u", "u", "v", "v", "v"] * 2, "y": [True, False] * 5})
    encoded, encoder = fit_target_encoder(rows, "y", smooth=0, folds=5)
    assert encoder.codes["a"] == {"x": 1.0, "y": 0.0}
    assert encoded.schema["b"] == pl.Float64
    assert encoded.columns == rows.columns
