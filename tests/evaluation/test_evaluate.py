"""Evaluations as a whole and per slice; slices cover every row once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, root_mean_squared_error

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.evaluation.evaluate import evaluate
from tidewheel.evaluation.metrics import metrics_of
from tidewheel.evaluation.slices import cut
from tidewheel.models.scorer import Scores


def names(series: Any) -> list[str]:
    return [part.name for part in cut(pl.DataFrame({"c": series}), ["c"])]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["b", "a", "b", None], ["c=a", "c=b", "c is null"]),
        ([True, False, True], ["c=False", "c=True"]),
        ([3, 1, 2, 1], ["c=1", "c=2", "c=3"]),
        ([0.5, float("nan"), 0.25], ["c=0.25", "c=0.5", "c is null"]),
        (list(range(100)), ["c<=24", "24<c<=49", "49<c<=74", "c>74"]),
        ([0] * 80 + list(range(20)), ["c<=0", "c>0"]),
        ([19] * 80 + list(range(20)), ["c<=18", "c>18"]),
        ([0.1, 0.1 + 1e-9], ["c=0.1", "c=0.100000001"]),
        ([None, None], ["c is null"]),
    ],
)
def test_slices_are_named_after_what_they_share(values: list[Any], expected: list[str]) -> None:
    assert names(values) == expected


@pytest.mark.parametrize(
    ("dtype", "first"),
    [
        (pl.Datetime("us"), "c<=2026-01-02 00:00:00"),
        (pl.Datetime("ms", "UTC"), "c<=2026-01-02 00:00:00+00:00"),
        (pl.Decimal(10, 2), "c<=24"),
        (pl.Float32, "c<=24"),
    ],
)
def test_other_ordered_columns_are_cut_into_quarters(dtype: pl.DataType, first: str) -> None:
    start = datetime(2026, 1, 1)  # noqa: DTZ001 - a column of a table without time zone
    temporal = isinstance(dtype, pl.Datetime)
    values = [start + timedelta(hours=hour) for hour in range(100)] if temporal else list(range(100))
    parts = cut(pl.DataFrame({"c": pl.Series(values).cast(dtype)}), ["c"])
    assert [len(part.rows) for part in parts] == [25, 25, 25, 25]
    assert parts[0].name == first


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(st.one_of(st.none(), st.floats(allow_infinity=False, width=32)), min_size=1, max_size=60),
        st.lists(st.one_of(st.none(), st.integers(-50, 50)), min_size=1, max_size=60),
        st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), min_size=1, max_size=60),
    )
)
def test_every_row_is_in_exactly_one_slice(values: list[Any]) -> None:
    parts = cut(pl.DataFrame({"c": values}), ["c"])
    assert sorted(np.concatenate([part.rows for part in parts]).tolist()) == list(range(len(values)))
    assert len({part.name for part in parts}) == len(parts)
    assert all(len(part.rows) for part in parts)


def test_slices_of_an_unknown_column_suggest_near_names() -> None:
    with pytest.raises(NotFound, match="Did you mean 'season'"):
        cut(pl.DataFrame({"season": [1], "temp": [0.5]}), ["seson"])


def test_slices_without_rows_are_refused() -> None:
    with pytest.raises(InvalidInput, match="without rows"):
        evaluate([1, 0], Scores(np.array([1, 0])), task="binary", slices=["season"])


def test_evaluation_of_slices_equals_evaluation_of_their_rows() -> None:
    random = np.random.default_rng(0)
    rows = pl.DataFrame({"season": random.integers(1, 4, 300), "temp": random.random(300)})
    truth = random.gamma(2, 50, 300)
    predicted = truth + random.normal(0, 20, 300)
    result = evaluate(truth, Scores(predicted), task="regression", rows=rows, slices=["season", "temp"])
    assert len(result.slices) == 3 + 4
    for part in cut(rows, ["season", "temp"]):
        own = result.slices[part.name]
        assert own.n == len(part.rows)
        assert own.metrics["rmse"] == pytest.approx(root_mean_squared_error(truth[part.rows], predicted[part.rows]))


def test_small_slices_are_skipped_and_said() -> None:
    rows = pl.DataFrame({"kind": ["a"] * 70 + ["b"] * 29})
    result = evaluate(np.zeros(99), Scores(np.zeros(99)), task="binary", rows=rows, slices=["kind"])
    assert list(result.slices) == ["kind=a"]
    assert result.skipped == {"kind=b": 29}


def test_every_metric_is_measured_or_says_why_not() -> None:
    result = evaluate([0, 0, 0], Scores(np.array([0, 1, 0])), task="binary")
    assert set(result.metrics) | set(result.undefined) == {metric.name for metric in metrics_of("binary")}
    assert result.metrics["accuracy"] == pytest.approx(2 / 3)
    assert "only the class 0 occurs in 3 rows" in result.undefined["roc_auc"]


def test_weights_count() -> None:
    truth, predicted = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 1])
    weights = np.array([1.0, 2.0, 3.0, 0.5])
    result = evaluate(truth, Scores(predicted), task="binary", weights=weights)
    assert result.metrics["accuracy"] == pytest.approx(accuracy_score(truth, predicted, sample_weight=weights))


@pytest.mark.parametrize(
    ("weights", "words"),
    [([1.0], "1 weights came with 2 labels"), ([1.0, -1.0], "not negative"), ([0.0, 0.0], "all zero")],
)
def test_weights_that_cannot_be_used_are_refused(weights: list[float], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        evaluate([0, 1], Scores(np.array([0, 1])), task="binary", weights=weights)


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(InvalidInput, match="3 rows came with 2 labels"):
        evaluate([0, 1], Scores(np.array([0, 1])), task="binary", rows=pl.DataFrame({"a": [1, 2, 3]}), slices=["a"])
