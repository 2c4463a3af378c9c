"""The parts of a profile on their own: quantile sketch, distinct estimate, frequent values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewheel.stats.distinct import estimate, hash_floats, hash_texts, merge_registers, registers_of
from tidewheel.stats.frequent import frequent_of, merge_frequent
from tidewheel.stats.quantile_sketch import (
    MAX_CELLS,
    QuantileSketch,
    exact_values,
    group_bounds,
    merge_sketches,
    quantiles,
    sketch_of,
)

finite = st.floats(allow_nan=False, allow_infinity=False)


def sketch(values: object) -> QuantileSketch:
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64) + 0.0, return_counts=True)
    return sketch_of(distinct, counts)


@given(st.lists(finite, max_size=600), st.lists(finite, max_size=600))
@settings(max_examples=60, deadline=None)
def test_merged_sketches_equal_the_sketch_of_all(a: list[float], b: list[float]) -> None:
    merged = merge_sketches(sketch(a), sketch(b))
    assert merged == sketch([*a, *b])
    assert merged == merge_sketches(sketch(b), sketch(a))
    assert len(merged.keys) <= MAX_CELLS


@given(st.lists(finite, min_size=1, max_size=200))
@settings(max_examples=100, deadline=None)
def test_every_group_holds_its_values(values: list[float]) -> None:
    found = sketch(values)
    assert exact_values(found) is not None
    lows, highs = zip(*(group_bounds(found, cell) for cell in range(len(found.keys))), strict=True)
    assert list(lows) == list(highs) == sorted({value + 0.0 for value in values})


def test_quantiles_of_a_coarse_sketch_never_leave_the_order() -> None:
    values = np.random.default_rng(0).standard_cauchy(20_000)
    found = quantiles(sketch(values), [0.0, 0.1, 0.5, 0.9, 1.0])
    assert found == sorted(found, key=lambda value: value or 0.0)
    assert quantiles(QuantileSketch(), [0.5]) == [None]


@pytest.mark.parametrize("size", [0, 1, 10, 300, 5_000, 200_000])
def test_distinct_estimates_are_within_four_standard_errors(size: int) -> None:
    values = np.random.default_rng(size).uniform(size=size)
    assert estimate(registers_of(hash_floats(values))) == pytest.approx(size, rel=4 * 1.04 / 32, abs=0.5)


def test_distinct_estimates_of_texts_merge() -> None:
    a, b = [f"a{i}" for i in range(3000)], [f"a{i}" for i in range(1500, 4500)]
    merged = merge_registers(registers_of(hash_texts(a)), registers_of(hash_texts(b)))
    assert merged == registers_of(hash_texts([*a, *b]))
    assert estimate(merged) == pytest.approx(4500, rel=0.13)


@given(st.lists(st.lists(st.integers(0, 40), max_size=80), min_size=1, max_size=6), st.integers(2, 12))
@settings(max_examples=150, deadline=None)
def test_frequent_counts_stay_within_their_stated_error(parts: list[list[int]], limit: int) -> None:
    summary = frequent_of([], [], limit)
    everything: list[int] = []
    for part in parts:
        values, counts = np.unique(np.array(part, dtype=np.float64), return_counts=True)
        summary = merge_frequent(summary, frequent_of(values.tolist(), counts.tolist(), limit), limit)
        everything += part
    listed = dict(zip(summary.values, summary.counts, strict=True))
    assert len(listed) <= limit
    assert summary.error <= len(everything) / (limit + 1)
    for value in set(everything):
        low = listed.get(float(value), 0)
        assert low <= everything.count(value) <= low + summary.error
