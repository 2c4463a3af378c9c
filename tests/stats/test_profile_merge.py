"""Properties: merging parts gives the profile of the whole, however the whole is cut."""

import itertools

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewheel.stats.column import ColumnProfile
from tidewheel.stats.profile import Profile, count_values, merge, profile_frame

SCHEMA = {"number": pl.Float64, "whole": pl.Int64, "text": pl.String, "flag": pl.Boolean}

rows = st.lists(
    st.tuples(
        st.none() | st.floats(allow_nan=True, allow_infinity=True),
        st.none() | st.integers(-(2**40), 2**40),
        st.none() | st.text(max_size=3),
        st.none() | st.booleans(),
    ),
    max_size=40,
)


def table(records: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(records, schema=SCHEMA, orient="row")


def assert_same(a: Profile, b: Profile) -> None:
    assert a.rows == b.rows
    assert list(a.columns) == list(b.columns)
    for name, left in a.columns.items():
        right = b.columns[name]
        assert moments_free(left) == moments_free(right), name
        scale = max(abs(left.max or 0.0), abs(left.min or 0.0), 1e-100)
        if left.mean is None or right.mean is None:
            assert left.mean is right.mean
        else:
            assert left.mean / scale == pytest.approx(right.mean / scale, abs=1e-9)
        if scale < 1e150:
            assert left.m2 / scale**2 == pytest.approx(right.m2 / scale**2, abs=1e-6)


def moments_free(column: ColumnProfile) -> ColumnProfile:
    return msgspec.structs.replace(column, mean=None, m2=0.0)


@given(rows, rows, rows)
@settings(max_examples=150, deadline=None)
def test_merge_is_associative_and_equals_concatenation(
    a: list[tuple[object, ...]], b: list[tuple[object, ...]], c: list[tuple[object, ...]]
) -> None:
    baseline = profile_frame(table([*a, *b]))
    parts = [profile_frame(table(part), edges_from=baseline) for part in (a, b, c)]
    whole = profile_frame(table([*a, *b, *c]), edges_from=baseline)
    assert_same(merge(merge(parts[0], parts[1]), parts[2]), whole)
    assert_same(merge(parts[0], merge(parts[1], parts[2])), whole)
    assert_same(merge(parts[2], merge(parts[1], parts[0])), whole)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_large_parts_merge_exactly_but_for_top_values(seed: int, cuts: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(500, 3000))
    frame = pl.DataFrame(
        {
            "x": rng.standard_t(2, size=size) * 10.0 ** float(rng.integers(-3, 9)),
            "id": [f"k{value}" for value in rng.zipf(1.3, size=size)],
        }
    )
    baseline = profile_frame(frame.head(200))
    whole = profile_frame(frame, edges_from=baseline)
    borders = sorted({0, size, *rng.integers(0, size, cuts).tolist()})
    merged = profile_frame(frame.clear(), edges_from=baseline)
    for low, high in itertools.pairwise(borders):
        merged = merge(merged, profile_frame(frame[low:high], edges_from=baseline))
    for name, column in merged.columns.items():
        expected = whole.columns[name]
        assert column.spread == expected.spread
        assert column.registers == expected.registers
        assert column.cells == expected.cells
        assert_top_bounds(column, frame[name])


def assert_top_bounds(column: ColumnProfile, series: pl.Series) -> None:
    counts = dict(series.value_counts().iter_rows())
    assert (
        column.top.error <= len(series) / (len(column.top.values) + 1) or column.top.error == 0 or not column.top.values
    )
    listed = dict(zip(column.top.values, column.top.counts, strict=True))
    for value, count in counts.items():
        assert listed.get(value, 0) <= count <= listed.get(value, 0) + column.top.error


@given(rows)
@settings(max_examples=100, deadline=None)
def test_json_round_trip(records: list[tuple[object, ...]]) -> None:
    profile = profile_frame(table(records))
    assert msgspec.json.decode(msgspec.json.encode(profile), type=Profile) == profile


@given(rows, rows)
@settings(max_examples=100, deadline=None)
def test_streaming_windows_equal_the_batch(history: list[tuple[object, ...]], window: list[tuple[object, ...]]) -> None:
    baseline = profile_frame(table(history))
    batch = profile_frame(table(window), edges_from=baseline)
    for index, name in enumerate(SCHEMA):
        column = baseline.columns[name]
        values = [record[index] for record in window]
        half = len(values) // 2
        counted = count_values(column, values[:half]) + count_values(column, values[half:])
        assert counted.tolist() == batch.columns[name].cells
