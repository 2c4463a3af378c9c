"""Values are compared as a reader of results would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from tidewheel.errors import InvalidInput
from tidewheel.models.model import Model
from tidewheel.pipelines.likeness import Tolerance, Verdict, likeness

SAME, WITHIN, DIFFERENT = Verdict.IDENTICAL, Verdict.WITHIN, Verdict.DIFFERENT
NAN = float("nan")
TINY = 1e-12


@dataclass(frozen=True)
class Report:
    """A record."""

    name: str
    score: float


@pytest.mark.parametrize(
    ("before", "after", "verdict", "detail"),
    [
        (1, 1, SAME, ""),
        (1, 1.0, DIFFERENT, "int became float"),
        (1.0, 1.0 + TINY, WITHIN, "became"),
        (1.0, 1.1, DIFFERENT, "1.0 became 1.1"),
        (NAN, NAN, SAME, ""),
        (NAN, 1.0, DIFFERENT, ""),
        (float("inf"), float("inf"), SAME, ""),
        (float("inf"), 1e308, DIFFERENT, ""),
        (True, False, DIFFERENT, "True became False"),
        ("a", "b", DIFFERENT, "'a' became 'b'"),
        (None, None, SAME, ""),
        ([1.0, 2.0], [1.0, 2.0 + TINY], WITHIN, "[1]: "),
        ([1.0], [1.0, 2.0], DIFFERENT, "with 1"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, DIFFERENT, "['a']['b']: 1 became 2"),
        ({"a": 1}, {"c": 1}, DIFFERENT, "without 'a' and with 'c'"),
        (Report("x", 1.0), Report("x", 1.0 + TINY), WITHIN, "['score']"),
        ({1, 2}, {2, 1}, SAME, ""),
        (np.array([1.0, NAN]), np.array([1.0, NAN]), SAME, ""),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0 + TINY]), WITHIN, "1 of 2 cells"),
        (np.array([1.0, 2.0]), np.array([1.0, 3.0]), DIFFERENT, "at most by 1"),
        (np.array([1.0]), np.array([NAN]), DIFFERENT, ""),
        (np.array([1.0]), np.array([1.0], dtype=np.float32), DIFFERENT, "float64[1] became float32[1]"),
        (np.array([1, 2]), np.array([1, 3]), DIFFERENT, "1 of 2"),
        (np.array(["a"]), np.array(["b"]), DIFFERENT, "1 of 1"),
        (np.float64(1.0), np.float64(1.0 + TINY), WITHIN, ""),
        (pl.DataFrame({"a": [1.0, None]}), pl.DataFrame({"a": [1.0, None]}), SAME, ""),
        (pl.DataFrame({"a": [1.0, None]}), pl.DataFrame({"a": [1.0 + TINY, None]}), WITHIN, "column 'a'"),
        (pl.DataFrame({"a": [1.0, None]}), pl.DataFrame({"a": [1.0, 2.0]}), DIFFERENT, "other cells are empty"),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1.0]}), DIFFERENT, "Int64 became Float64"),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"b": [1]}), DIFFERENT, "columns a became b"),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1, 2]}), DIFFERENT, "1 rows became 2"),
        (pl.DataFrame({"a": ["x", "y"]}), pl.DataFrame({"a": ["x", "z"]}), DIFFERENT, "1 of 2 cells"),
        (pl.DataFrame({"a": [[1.0]]}), pl.DataFrame({"a": [[1.0 + TINY]]}), WITHIN, "column 'a': [0][0]"),
        (pl.Series("a", [1.0]), pl.Series("a", [1.0 + TINY]), WITHIN, ""),
        (pl.LazyFrame({"a": [1.0]}), pl.LazyFrame({"a": [1.0 + TINY]}), WITHIN, ""),
        (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": [1.0 + TINY]}), WITHIN, "column 'a'"),
        (pd.DataFrame({"a": [1.0]}, index=[5]), pd.DataFrame({"a": [1.0]}, index=[6]), DIFFERENT, "index"),
        (pa.table({"a": [1.0]}), pa.table({"a": [1.0 + TINY]}), WITHIN, "column 'a'"),
    ],
)
def test_likeness(before: Any, after: Any, verdict: Verdict, detail: str) -> None:
    found = likeness(before, after, Tolerance())
    assert found.verdict is verdict
    assert detail in found.detail


def test_files_are_compared_by_their_bytes(tmp_path: Path) -> None:
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    assert likeness(tmp_path / "a", tmp_path / "b", Tolerance()).verdict is SAME
    assert likeness(tmp_path / "a", tmp_path / "c", Tolerance()).verdict is DIFFERENT


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, WITHIN), (1e-12, WITHIN), (0.1, DIFFERENT)])
def test_models_are_compared_by_their_predictions(shift: float, verdict: Verdict) -> None:
    rows = pl.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0]})
    label = np.array([1.0, 2.0, 3.0])
    one, other = (Model(LinearRegression().fit(rows, label + extra), example=rows) for extra in (0.0, shift))
    found = likeness(one, other, Tolerance(), [pl.DataFrame({"z": [1]}), rows])
    assert found.verdict is verdict
    assert "predictions on 3 rows" in found.detail
    assert "no rows" in likeness(one, other, Tolerance()).detail


@given(st.lists(st.floats()), st.floats(min_value=0, max_value=1), st.floats(min_value=0, max_value=1))
def test_the_tolerance_is_that_of_numpy(numbers: list[float], relative: float, absolute: float) -> None:
    tolerance = Tolerance(relative=relative, absolute=absolute)
    for before, after in zip(numbers, reversed(numbers), strict=True):
        with np.errstate(all="ignore"):
            expected = bool(np.isclose(after, before, relative, absolute, equal_nan=True))
        assert tolerance.holds(before, after) is expected


@pytest.mark.parametrize("amount", [-1.0, NAN, float("inf")])
def test_what_is_no_tolerance_is_refused(amount: float) -> None:
    with pytest.raises(InvalidInput, match="not a tolerance"):
        Tolerance(relative=amount)
