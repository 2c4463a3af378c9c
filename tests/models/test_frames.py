"""Frames of any kind arrive as Polars and go back as the kind an estimator was fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.errors import InvalidInput
from tidewheel.models.frames import Adapter, adapter_of, frame_kind, present, to_polars
from tidewheel.models.signature import infer_fields

ROWS = {"a": [1.0, 2.5], "b": [1, 2], "c": ["x", "y"]}


@pytest.mark.parametrize(
    "frame",
    [pl.DataFrame(ROWS), pl.DataFrame(ROWS).lazy(), pd.DataFrame(ROWS), pa.table(ROWS), ROWS],
    ids=["polars", "lazy", "pandas", "arrow", "mapping"],
)
def test_every_frame_holds_the_same_rows(frame: Any) -> None:
    assert to_polars(frame).to_dict(as_series=False) == ROWS


@pytest.mark.parametrize(
    "array", [np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1, "x"], [2, "y"]], dtype=object)], ids=["float", "object"]
)
def test_array_columns_get_names(array: Any) -> None:
    table = to_polars(array)
    assert table.columns == ["x0", "x1"]
    assert [list(row) for row in table.iter_rows()] == array.tolist()


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        ([[1, 2]], "list is not a frame"),
        (np.zeros(3), "has no columns"),
        (np.zeros((2, 2, 2)), "is not a table"),
        ({"a": [1], "b": [1, 2]}, "differ in length"),
        ({"a": [1, object()]}, "mixes values|which no model takes"),
    ],
)
def test_what_is_no_table_is_refused(thing: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        infer_fields(thing)


def test_pandas_categories_come_back_in_their_order() -> None:
    frame = pd.DataFrame({"sky": pd.Categorical(["rain", "clear"], categories=["snow", "rain", "clear"])})
    adapter = adapter_of(frame)
    back = present(to_polars(frame), adapter)
    assert list(back["sky"].cat.categories) == ["snow", "rain", "clear"]
    unseen = present(pl.DataFrame({"sky": ["fog"]}), adapter)
    assert unseen["sky"].isna().tolist() == [True]


def test_polars_categories_come_back_as_an_enum() -> None:
    frame = pl.DataFrame({"sky": ["rain", "clear"]}, schema={"sky": pl.Enum(["snow", "rain", "clear"])})
    adapter = adapter_of(frame)
    assert present(pl.DataFrame({"sky": ["rain", "fog"]}), adapter)["sky"].to_list() == ["rain", None]


@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow", "numpy"])
def test_rows_are_presented_as_the_kind_asked_for(kind: Any) -> None:
    shown = present(pl.DataFrame({"a": [1.0]}), Adapter(kind=kind))
    assert frame_kind(shown) == kind


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=False), st.one_of(st.none(), st.integers(-(2**40), 2**40)), st.text(max_size=5))
    )
)
def test_pandas_and_arrow_keep_every_value(rows: list[tuple[float, int | None, str]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Float64, "b": pl.Int64, "c": pl.String}, orient="row")
    assert to_polars(frame.to_arrow()).equals(frame)
    again = to_polars(frame.to_pandas()).select(
        pl.col("a").cast(pl.Float64), pl.col("b").cast(pl.Int64), pl.col("c").cast(pl.String)
    )
    assert again.equals(frame)
