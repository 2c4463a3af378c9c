"""Parity says whether two answers are the same decision."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.models.parity import compare_scores, describe, sample
from tidewheel.models.scorer import Scores


def classes(prediction: list[Any], probabilities: list[list[float]] | None = None) -> Scores:
    return Scores(np.array(prediction), None if probabilities is None else np.array(probabilities))


@pytest.mark.parametrize(
    ("original", "other", "passed"),
    [
        (classes([0, 1]), classes([0, 1]), True),
        (classes([0, 1]), classes([0, 0]), False),
        (classes(["a"]), classes(["a"]), True),
        (classes(["a"]), classes(["b"]), False),
        (classes([0], [[0.9, 0.1]]), classes([0], [[0.90001, 0.09999]]), True),
        (classes([0], [[0.9, 0.1]]), classes([0], [[0.89, 0.11]]), False),
        (classes([0], [[0.9, 0.1]]), classes([0], [[0.9, np.nan]]), False),
        (classes([0], [[0.9, 0.1]]), classes([0], [[1.0]]), False),
        (classes([0], [[0.9, 0.1]]), classes([0]), False),
        (classes([100.0, 0.5]), classes([100.0, 0.505]), True),
        (classes([100.0, 0.5]), classes([100.0, 0.52]), False),
        (classes([np.nan]), classes([np.nan]), True),
        (classes([1.0]), classes([np.nan]), False),
        (classes([np.nan]), classes([1.0]), False),
        (classes([1.0, 2.0]), classes([1.0]), False),
    ],
)
def test_same_decisions_and_close_numbers_pass(original: Scores, other: Scores, passed: bool) -> None:
    parity = compare_scores(original, other)
    assert parity.passed is passed
    assert describe(parity).startswith("Alike" if passed else "Parity failed")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(-3e-4, 3e-4))
def test_numbers_pass_up_to_a_share_of_the_largest(values: list[float], shift: float) -> None:
    array = np.array(values)
    scale = float(np.abs(array).max())
    parity = compare_scores(Scores(array), Scores(array + shift * scale))
    assert parity.passed == bool(np.all(np.abs((array + shift * scale) - array) <= 1e-4 * scale))


@given(st.integers(1, 500), st.integers(1, 50))
def test_sample_is_spread_over_all_rows(rows: int, wanted: int) -> None:
    found = sample(pl.DataFrame({"row": range(rows)}), wanted)["row"].to_list()
    assert len(found) == min(rows, wanted)
    assert found == sorted(set(found))
    assert found[0] == 0
    assert found[-1] == rows - 1 or wanted == 1
