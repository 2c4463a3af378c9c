"""JSON rows: what fits is decoded as it is, what does not is named with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.errors import InvalidInput, TooLarge, ValidationFailed
from tidewheel.models.signature import Field
from tidewheel.serving.ask import MAX_ROWS, NOBODY, Caller
from tidewheel.serving.rows import RowCodec

FIELDS = [
    Field(name="sepal length (cm)", kind="float"),
    Field(name="count", kind="int"),
    Field(name="new", kind="bool"),
    Field(name="color", kind="string", categories=["green", "red"]),
    Field(name="when", kind="datetime"),
    Field(name="rows", kind="float", nullable=True),
]
CODEC = RowCodec(FIELDS)
GOOD: dict[str, Any] = {
    "sepal length (cm)": 1.5,
    "count": 3,
    "new": True,
    "color": "red",
    "when": "2026-03-01T12:00:00Z",
    "rows": None,
}
ROW = (1.5, 3, True, "red", "2026-03-01T12:00:00Z", None)
DEEP = b"[" * 100_000


def decode(content: Any) -> Any:
    return CODEC.decode(content if isinstance(content, bytes) else json.dumps(content).encode(), NOBODY)


def problems(content: Any) -> dict[str, str]:
    with pytest.raises(ValidationFailed) as caught:
        decode(content)
    return {problem.where: problem.what for problem in caught.value.findings}  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", [{"rows": [GOOD]}, GOOD, {"rows": [GOOD], "id": None, "unit": None}])
def test_rows_and_a_bare_row_are_decoded(content: Any) -> None:
    assert decode(content).rows == [ROW]


def test_a_bare_row_may_have_a_field_that_is_called_rows() -> None:
    assert decode(GOOD | {"rows": 2.0}).rows == [(*ROW[:-1], 2.0)]


def test_a_value_may_be_called_rows() -> None:
    assert decode(GOOD | {"color": "rows"}).rows[0][3] == "rows"


def test_a_whole_number_is_a_float_where_one_is_wanted() -> None:
    value = decode(GOOD | {"sepal length (cm)": 2}).rows[0][0]
    assert (value, type(value)) == (2.0, float)


@given(st.floats(-3e38, 3e38), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.text(), st.none() | st.floats(-1, 1))
def test_every_fitting_value_comes_through(a: float, n: int, new: bool, color: str, rows: float | None) -> None:
    sent = {**GOOD, "sepal length (cm)": a, "count": n, "new": new, "color": color, "rows": rows}
    for body in ({"rows": [sent]}, sent):
        assert decode(body).rows == [(a, n, new, color, GOOD["when"], rows)]


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        ({"count": "3"}, "$.rows[0].count", "a whole number is needed, not the text '3'"),
        ({"count": 3.5}, "$.rows[0].count", "a whole number is needed, not the number 3.5"),
        ({"count": 2**63}, "$.rows[0].count", "a whole number of 64 bits is needed"),
        ({"count": True}, "$.rows[0].count", "a whole number is needed, not true"),
        ({"count": None}, "$.rows[0].count", "null; a whole number is needed"),
        ({"new": 1}, "$.rows[0].new", "true or false is needed, not the number 1"),
        ({"color": 7}, "$.rows[0].color", "text is needed, not the number 7"),
        ({"color": {"a": 1}}, "$.rows[0].color", "text is needed, not an object"),
        ({"sepal length (cm)": 1e39}, "$.rows[0].sepal length (cm)", "a finite number between"),
        ({"sepal length (cm)": [1]}, "$.rows[0].sepal length (cm)", "a number is needed, not an array"),
        ({"when": "yesterday"}, "$.rows[0].when", "not an ISO 8601 datetime"),
        ({"colour": "red"}, "$.rows[0].colour", "the model has no such field; did you mean 'color'?"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(change: dict[str, Any], where: str, what: str) -> None:
    found = problems({"rows": [GOOD | change]})
    assert found[where].startswith(what)


@pytest.mark.parametrize("digits", [20, 400, 5_000, 100_000])
@pytest.mark.parametrize("field", ["count", "sepal length (cm)"])
def test_a_huge_number_is_refused(field: str, digits: int) -> None:
    body = json.dumps(GOOD | {field: "HERE"}).replace('"HERE"', "9" * digits).encode()
    if field == "count" or digits > 38:
        with pytest.raises(ValidationFailed):
            decode(body)
    else:
        assert decode(body).rows[0][0] == 1e20


def test_every_problem_is_named_up_to_ten() -> None:
    row = {name: value for name, value in GOOD.items() if name != "new"} | {"count": "x", "extra": 1}
    assert len(problems({"rows": [row]})) == 3
    assert len(problems({"rows": [row] * 9})) == 10


def test_a_missing_field_says_what_it_should_hold() -> None:
    row = {name: value for name, value in GOOD.items() if name != "rows"}
    assert problems({"rows": [row]}) == {"$.rows[0].rows": "missing; a number or null is needed"}


@pytest.mark.parametrize("row", [1, "x", None, [], [1.5, 3]])
def test_a_row_must_be_an_object(row: Any) -> None:
    assert "a row is an object of 6 fields" in problems({"rows": [row]})["$.rows[0]"]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({"rows": []}, "$.rows"),
        ({"rows": [GOOD], "id": 7}, "$.id"),
        ({"rows": [GOOD], "unit": 1.5}, "$.unit"),
        ({"rows": [GOOD], "unit": True}, "$.unit"),
        ({"rows": [GOOD], "untit": "x"}, "$.untit"),
    ],
)
def test_what_stands_beside_the_rows_is_checked(content: Any, where: str) -> None:
    assert list(problems(content)) == [where]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "truncated at line 1, column 1"),
        (b"{", "line 1, column 2"),
        (b'{"rows": [{"count": 3,\n  "new": tru}]}', "invalid character at line 2, column 14"),
        (b'{"rows": []} x', "trailing characters at line 1, column 15"),
        (b'{"count": NaN}', "line 1, column 11"),
        (b'{"count": Infinity}', "line 1, column 11"),
        (b'{"color": "\xff"}', "not UTF-8"),
        (DEEP, "nested too deeply"),
        (b'{"rows": ' + DEEP, "nested too deeply"),
    ],
)
def test_invalid_json_is_refused_with_its_position(body: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        decode(body)


def test_too_many_rows_are_refused_with_the_limit() -> None:
    bare = RowCodec([Field(name="a", kind="float")])
    body = json.dumps({"rows": [{"a": 1}] * (MAX_ROWS + 1)}).encode()
    with pytest.raises(TooLarge, match=f"at most {MAX_ROWS:,}"):
        bare.decode(body, NOBODY)


@pytest.mark.parametrize("given_id", ["", "a/b", "x" * 201, "ä", "a\nb"])
def test_an_id_that_cannot_name_rows_is_refused(given_id: str) -> None:
    with pytest.raises(InvalidInput, match="printable ASCII"):
        decode({"rows": [GOOD], "id": given_id})


def test_ids_and_units_come_from_the_body_then_the_headers() -> None:
    caller = Caller("from-header", "unit-header", b"from-header")
    body = json.dumps({"rows": [GOOD], "id": "from-body", "unit": 17}).encode()
    ask = CODEC.decode(body, caller)
    assert (ask.id, ask.unit, ask.echo) == ("from-body", "17", b"from-header")
    ask = CODEC.decode(json.dumps(GOOD).encode(), caller)
    assert (ask.id, ask.unit, ask.echo) == ("from-header", "unit-header", b"from-header")
    first, second = decode(GOOD), decode(GOOD)
    assert first.id != second.id
    assert first.echo == first.id.encode()


def test_an_unseen_category_is_noted_not_refused() -> None:
    notes = decode({"rows": [GOOD, GOOD | {"color": "mauve"}]}).notes
    assert notes == ["$.rows[1].color: 'mauve' was not seen in training"]
    assert len(decode({"rows": [GOOD | {"color": "mauve"}] * 50}).notes) == 10


def test_a_column_of_the_challenger_alone_may_be_left_out() -> None:
    codec = RowCodec(FIELDS[:1], [Field(name="extra", kind="float")])
    row = {"sepal length (cm)": 1.0}
    assert codec.decode(json.dumps(row | {"extra": 2}).encode(), NOBODY).rows == [(1.0, 2.0)]
    assert len(codec.decode(json.dumps(row).encode(), NOBODY).rows[0]) == 2
    with pytest.raises(ValidationFailed, match="extra"):
        codec.decode(json.dumps(row | {"extra": "x"}).encode(), NOBODY)
