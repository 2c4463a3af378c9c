"""Profiles against NumPy, Polars and SciPy, on tables of every kind."""

import math
from datetime import UTC, date, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest
from scipy import stats

from tidewheel.errors import InvalidInput
from tidewheel.stats.column import ColumnProfile, comparison_cells, ordered_cells
from tidewheel.stats.profile import Profile, count_values, count_window, merge, profile_frame


def only(values: object, **options: object) -> ColumnProfile:
    frame = pl.DataFrame({"x": pl.Series(values, **options)})  # type: ignore[arg-type]
    return profile_frame(frame).columns["x"]


def test_numbers_agree_with_numpy() -> None:
    values = np.random.default_rng(0).lognormal(size=50_000)
    column = only(values)
    assert column.kind == "numeric"
    assert column.dtype == "float"
    assert (column.count, column.nulls, column.nans, column.infinities) == (50_000, 0, 0, 0)
    assert column.min == values.min()
    assert column.max == values.max()
    assert column.mean == pytest.approx(values.mean())
    assert column.variance == pytest.approx(values.var(ddof=1))
    assert column.distinct == pytest.approx(50_000, rel=0.1)
    assert sum(column.cells) == 50_000
    assert len(column.edges) == 33


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).normal(size=40_000),
        np.random.default_rng(2).lognormal(2.0, 2.0, size=40_000),
        2011.0 + np.random.default_rng(3).uniform(size=40_000),
        np.where(
            np.random.default_rng(4).uniform(size=40_000) < 0.6, 0.0, np.random.default_rng(5).normal(size=40_000)
        ),
        -np.random.default_rng(6).pareto(1.0, size=40_000),
    ],
    ids=["normal", "lognormal", "offset", "zero-inflated", "heavy tail"],
)
@pytest.mark.parametrize("q", [0.01, 0.25, 0.5, 0.75, 0.99])
def test_quantiles_are_within_two_percent_of_rank(values: np.ndarray, q: float) -> None:
    found = only(values).quantile(q)
    assert found is not None
    below, at_most = np.mean(values < found), np.mean(values <= found)
    assert below - 0.02 <= q <= at_most + 0.02


def test_quantiles_are_exact_for_few_distinct_values() -> None:
    values = np.random.default_rng(0).integers(0, 17, 999)
    column = only(values)
    for q in (0.1, 0.5, 0.9):
        assert column.quantile(q) == np.quantile(values, q, method="inverted_cdf")
    assert column.distinct == 17


def test_histogram_bins_hold_equal_shares() -> None:
    column = only(np.random.default_rng(0).normal(size=32_000))
    inner = np.array(column.cells[1:-2])
    assert column.cells[0] == column.cells[-2] == column.cells[-1] == 0
    assert np.all(np.abs(inner - 1000) <= 2)


def test_few_values_get_a_bin_each_and_new_ones_stay_visible() -> None:
    column = only([0, 1, 1, 2, 2, 2])
    assert column.atoms
    assert column.cells == [0, 1, 2, 3, 0, 0]
    assert count_values(column, [2, 3, -1, 1]).tolist() == [1, 0, 1, 1, 1, 0]
    assert comparison_cells(column).tolist() == column.cells


def test_growth_beyond_the_range_joins_the_outer_bin() -> None:
    column = only(np.arange(1000.0))
    cells = count_values(column, np.arange(990.0, 1010.0))
    assert cells[-2] == 10
    folded = comparison_cells(column, cells)
    assert len(folded) == len(cells) - 2
    assert folded[-2] == 20
    assert folded.sum() == cells.sum()
    assert ordered_cells(column, cells).sum() == 20


def test_missing_values_of_each_sort_are_counted_apart() -> None:
    column = only([1.0, None, math.nan, math.inf, -math.inf, 2.0])
    assert (column.count, column.nulls, column.nans, column.infinities, column.missing) == (6, 1, 1, 2, 2)
    assert (column.min, column.max, column.mean) == (1.0, 2.0, 1.5)
    assert column.cells == [1, 1, 1, 1, 2]
    assert column.variance == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "options", "distinct"),
    [
        ([3.0] * 5, {}, 1),
        ([None] * 5, {"dtype": pl.Float64}, 0),
        ([math.inf] * 5, {}, 0),
        ([math.nan] * 5, {}, 0),
        ([], {"dtype": pl.Float64}, 0),
        ([None] * 5, {"dtype": pl.String}, 0),
        ([None] * 5, {"dtype": pl.Boolean}, 0),
        ([None] * 5, {"dtype": pl.Null}, 0),
        ([[1], [2], None, [], [3]], {}, 0),
        ([-0.0, 0.0], {}, 1),
        ([5e-324, -5e-324, 1.7e308, -1.7e308], {}, 4),
        ([2**63 - 1, -(2**63)], {"dtype": pl.Int64}, 2),
    ],
    ids=[
        "constant",
        "null",
        "inf",
        "nan",
        "empty",
        "null text",
        "null bool",
        "null type",
        "list",
        "zero",
        "huge",
        "int",
    ],
)
def test_odd_columns_have_a_profile_that_survives_json(
    values: list[object], options: dict[str, object], distinct: int
) -> None:
    frame = pl.DataFrame({"x": pl.Series(values, **options)})  # type: ignore[arg-type]
    profile = profile_frame(frame)
    column = profile.columns["x"]
    assert column.count == len(values)
    assert sum(column.cells) == len(values)
    assert column.distinct == distinct
    assert column.m2 >= 0
    assert math.isfinite(column.m2)
    assert msgspec.json.decode(msgspec.json.encode(profile), type=Profile) == profile
    assert merge(profile, profile).columns["x"].count == 2 * len(values)


def test_a_change_of_a_constant_column_shows() -> None:
    column = only([7.0] * 100)
    assert column.cells == [0, 100, 0, 0]
    assert count_values(column, [7.0, 8.0, 6.0]).tolist() == [1, 1, 1, 0]


def test_texts_agree_with_polars() -> None:
    values = np.random.default_rng(0).choice(["a", "b", "c", "d"], 1000, p=[0.4, 0.3, 0.2, 0.1]).tolist()
    column = only([*values, None])
    expected = pl.Series(values).value_counts(sort=True)
    assert column.categories == column.top.values == expected[""].to_list()
    assert column.cells == [*expected["count"].to_list(), 0, 1]
    assert column.values_known
    assert column.distinct == 4


def test_many_texts_are_listed_in_part_and_estimated_as_a_whole() -> None:
    values = [f"id{i}" for i in range(5000)] + ["often"] * 500
    column = only(values)
    assert column.partial
    assert not column.values_known
    assert column.distinct == pytest.approx(5001, rel=0.1)
    assert column.top.values[0] == "often"
    assert column.top.counts[0] <= 500 <= column.top.counts[0] + column.top.error
    assert sum(column.cells) == 5500


def test_long_texts_are_counted_by_their_beginning() -> None:
    column = only(["x" * 10_000 + "a", "x" * 10_000 + "b", "y"])
    assert column.top.values == ["x" * 200, "y"]
    assert count_values(column, ["x" * 10_000 + "z"]).tolist() == [1, 0, 0, 0]


def test_booleans_and_moments() -> None:
    assert only([True, False, True, None]).cells == [2, 1, 0, 1]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [start + timedelta(hours=i) for i in range(100)]
    column = only(moments, dtype=pl.Datetime("us", "UTC"))
    assert column.kind == "temporal"
    assert column.min == start.timestamp() * 1e6
    cells = count_values(column, [start, "2026-01-01T00:00:00Z", "2027-01-01", date(2020, 1, 1), None, "nonsense"])
    assert cells[0] == 1
    assert cells[1] == 2
    assert cells[-2] == 1
    assert cells[-1] == 2


def test_edges_come_from_the_baseline() -> None:
    rng = np.random.default_rng(0)
    before = pl.DataFrame({"x": rng.normal(size=5000), "sky": rng.choice(["clear", "rain"], 5000)})
    after = pl.DataFrame({"x": rng.normal(1.0, size=500), "sky": ["snow"] * 500})
    baseline = profile_frame(before)
    now = profile_frame(after, edges_from=baseline)
    assert now.columns["x"].edges == baseline.columns["x"].edges
    counted = count_window(baseline, {"x": after["x"].to_list(), "sky": after["sky"].to_list(), "other": [1]})
    assert set(counted) == {"x", "sky"}
    assert counted["x"].tolist() == now.columns["x"].cells
    assert counted["sky"].tolist() == now.columns["sky"].cells == [0, 0, 500, 0]


def test_profiles_on_different_edges_do_not_add_up() -> None:
    a = profile_frame(pl.DataFrame({"x": [1.0, 2.0]}))
    b = profile_frame(pl.DataFrame({"x": [3.0, 4.0]}))
    with pytest.raises(InvalidInput, match="edges_from"):
        merge(a, b)


def test_a_column_that_one_table_lacks_is_null_there() -> None:
    a = profile_frame(pl.DataFrame({"x": [1, 2]}))
    b = profile_frame(pl.DataFrame({"y": ["u", None, "v"]}))
    merged = merge(a, b)
    assert merged.rows == 5
    assert (merged.columns["x"].count, merged.columns["x"].nulls) == (5, 3)
    assert (merged.columns["y"].count, merged.columns["y"].nulls) == (5, 3)


def test_skewed_counts_follow_scipy_moments() -> None:
    values = np.random.default_rng(0).exponential(size=10_000)
    parts = np.array_split(values, 7)
    baseline = profile_frame(pl.DataFrame({"x": parts[0]}))
    whole = baseline
    for part in parts[1:]:
        whole = merge(whole, profile_frame(pl.DataFrame({"x": part}), edges_from=baseline))
    described = stats.describe(values)
    column = whole.columns["x"]
    assert column.mean == pytest.approx(described.mean)
    assert column.variance == pytest.approx(described.variance)
    assert (column.min, column.max) == described.minmax


def test_window_values_of_wrong_types_count_as_missing() -> None:
    column = only([1.0, 2.0, 3.0])
    assert count_values(column, [1.0, "two", None, {}, True])[-1] == 3
    assert count_values(column, np.array([1, 2, 3])).tolist() == [0, 1, 1, 1, 0, 0]
    assert count_values(only([True, False]), [True, np.True_, False, None]).tolist() == [1, 2, 0, 1]
