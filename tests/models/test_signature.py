"""Signatures name, type and order the inputs; bad frames are refused in words."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.models.signature import Field, Signature, from_rows, infer_fields, select, to_matrix, widen

SIGNATURE = Signature(
    task="regression",
    fields=[
        Field(name="temperature", kind="float"),
        Field(name="hour", kind="int"),
        Field(name="holiday", kind="bool"),
        Field(name="sky", kind="string"),
    ],
)
GOOD = pl.DataFrame({"temperature": [0.5], "hour": [3], "holiday": [True], "sky": ["clear"]})


def test_fields_tell_kind_null_range_and_categories() -> None:
    frame = pl.DataFrame(
        {
            "number": [1.5, float("nan"), float("inf"), -2.0],
            "whole": [None, 3, 1, 2],
            "flag": [True, False, None, True],
            "text": ["b", "a", "b", None],
            "when": [datetime(2026, 1, 1, tzinfo=UTC)] * 4,
            "empty": pl.Series([None] * 4, dtype=pl.Null),
            "same": [7] * 4,
        }
    )
    found = {field.name: field for field in infer_fields(frame)}
    assert found["number"] == Field(name="number", kind="float", nullable=True, low=-2.0, high=1.5)
    assert found["whole"] == Field(name="whole", kind="int", nullable=True, low=1.0, high=3.0)
    assert found["flag"] == Field(name="flag", kind="bool", nullable=True)
    assert found["text"] == Field(name="text", kind="string", nullable=True, categories=["a", "b"])
    assert found["when"].kind == "datetime"
    assert found["empty"] == Field(name="empty", kind="float", nullable=True)
    assert (found["same"].low, found["same"].high) == (7.0, 7.0)


def test_many_categories_are_not_listed() -> None:
    (field,) = infer_fields(pl.DataFrame({"id": [str(i) for i in range(65)]}))
    assert field.categories is None


@pytest.mark.parametrize("column", [[[1, 2]], [{"a": 1}], [b"x"]], ids=["list", "struct", "bytes"])
def test_columns_no_model_takes_are_refused(column: Any) -> None:
    with pytest.raises(InvalidInput, match="no model takes"):
        infer_fields(pl.DataFrame({"odd": column}))


def test_frame_without_columns_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no columns"):
        infer_fields(pl.DataFrame())


def test_widening_adds_what_real_rows_show() -> None:
    narrow = Signature(task="regression", fields=infer_fields(pl.DataFrame({"n": [1, 2], "s": ["a", "a"]})))
    wide = widen(narrow, pl.DataFrame({"n": [-5.0, None], "s": ["b", None]}))
    assert wide.fields[0] == Field(name="n", kind="int", nullable=True, low=-5.0, high=2.0)
    assert wide.fields[1] == Field(name="s", kind="string", nullable=True, categories=["a", "b"])


def test_select_orders_and_drops_columns() -> None:
    shuffled = GOOD.with_columns(extra=pl.lit(1)).select("sky", "extra", "holiday", "hour", "temperature")
    assert select(SIGNATURE, shuffled).columns == SIGNATURE.names


def test_missing_column_is_named_with_near_names() -> None:
    with pytest.raises(NotFound, match="Did you mean 'temprature'"):
        select(SIGNATURE, GOOD.rename({"temperature": "temprature"}))


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("temperature", ["warm"], "'temperature' is float for this model, but holds String"),
        ("hour", ["3"], "'hour' is int"),
        ("holiday", ["yes"], "'holiday' is bool"),
        ("sky", [3], "'sky' is string"),
        ("hour", [[3]], "'hour' is int"),
        ("temperature", [{"value": 3.0}], "'temperature' is float"),
    ],
)
def test_mistyped_column_is_refused_with_its_values(column: str, values: list[Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        select(SIGNATURE, GOOD.with_columns(pl.Series(column, values)))


def test_a_datetime_is_not_read_from_text() -> None:
    signature = Signature(task="regression", fields=[Field(name="when", kind="datetime")])
    with pytest.raises(InvalidInput, match="'when' is datetime"):
        select(signature, {"when": ["2026-01-01"]})
    day = select(signature, pl.DataFrame({"when": [date(2026, 1, 1)]}))
    assert day["when"].to_list() == [datetime(2026, 1, 1)]  # noqa: DTZ001 - a day has no time zone


def test_integer_column_may_come_as_float_with_gaps() -> None:
    chosen = select(SIGNATURE, GOOD.with_columns(hour=pl.Series([float("nan")])))
    assert np.isnan(chosen["hour"].to_list()[0])


@pytest.mark.parametrize("shape", [(2, 3), (2, 5)])
def test_array_of_another_width_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="temperature, hour, holiday, sky"):
        select(SIGNATURE, np.zeros(shape))


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(InvalidInput, match="A row has 2 values"):
        from_rows(SIGNATURE, [[1.0, 2]])


def test_rows_with_datetimes_as_text_are_read() -> None:
    signature = Signature(task="regression", fields=[Field(name="when", kind="datetime", nullable=True)])
    moments = from_rows(signature, [["2026-01-02T03:04:05+00:00"], [None], [datetime(2026, 1, 1, tzinfo=UTC)]])[
        "when"
    ].to_list()
    assert moments == [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None, datetime(2026, 1, 1, tzinfo=UTC)]


values = st.tuples(
    st.one_of(st.none(), st.floats(allow_nan=False, width=32)),
    st.one_of(st.none(), st.integers(-(2**31), 2**31)),
    st.one_of(st.none(), st.booleans()),
    st.one_of(st.none(), st.text(max_size=8)),
)


@given(st.lists(values, max_size=20))
def test_rows_survive_the_way_through_a_frame(rows: list[tuple[Any, ...]]) -> None:
    frame = from_rows(SIGNATURE, rows)
    assert frame.columns == SIGNATURE.names
    assert [tuple(row) for row in frame.iter_rows()] == rows


@given(st.lists(values, min_size=1, max_size=20))
def test_matrix_holds_numbers_and_nan_for_null(rows: list[tuple[Any, ...]]) -> None:
    numbers = msgspec.structs.replace(SIGNATURE, fields=SIGNATURE.fields[:3])
    matrix = to_matrix(numbers, from_rows(numbers, [row[:3] for row in rows]))
    expected = [[np.nan if value is None else float(value) for value in row[:3]] for row in rows]
    np.testing.assert_array_equal(matrix, np.array(expected))


@given(st.lists(st.lists(st.one_of(st.none(), st.floats(), st.integers(-9, 9)), min_size=3, max_size=3), min_size=1))
def test_signature_survives_json(rows: list[list[Any]]) -> None:
    columns = {f"c{i}": pl.Series([row[i] for row in rows], dtype=pl.Float64, strict=False) for i in range(3)}
    signature = Signature(task="binary", fields=infer_fields(columns), classes=[False, True], probabilities=True)
    assert msgspec.json.decode(msgspec.json.encode(signature), type=Signature) == signature
