"""Whatever a client sends: an answer or a 4xx that says what is wrong, never a 5xx and never a traceback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["red", "mauve", "", "\x00", "ü", []])
NAMES = st.sampled_from(["a", "b", "n", "color", "size", "new", "rows", "id"])
ROW = st.dictionaries(NAMES, VALUE, max_size=6)
GOOD: dict[str, dict[str, Any]] = {
    "bikes": {"a": 1.0, "b": 2.0, "n": 3},
    "paint": {"color": "red", "size": 1.0, "new": True},
    "strict": {"color": "red", "size": 1.0, "new": True},
    "line": {"a": 1.0, "b": 2.0},
}
MODELS = sorted(GOOD)
TENSOR = st.fixed_dictionaries(
    {
        "name": NAMES,
        "datatype": st.sampled_from(["FP32", "FP64", "INT64", "UINT8", "BOOL", "BYTES", "FP128", ""]),
        "shape": st.lists(st.integers(-2, 3) | st.just(10**20), max_size=3),
        "data": st.lists(VALUE | st.lists(VALUE, max_size=3), max_size=6) | JSON,
    },
    optional={"parameters": JSON},
)
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def fuzzed(shop: Shop) -> Shop:
    for kind, model in (("colors", "paint"), ("strict", "strict"), ("line", "line")):
        shop.register(kind, model)
        shop.deploy(1, model)
    shop.deploy(1, challenger=2, share=0.5, paired=True)
    return shop


def check(shop: Shop, path: str, body: bytes) -> int:
    response = shop.engine.handle("POST", path, [], body)
    assert response.status in (200, 202) or 400 <= response.status < 500, (body, response)
    content = json.loads(response.body)
    if response.status >= 400:
        assert content["error"]
        assert content["mend"]
        assert b"Traceback" not in response.body
    return response.status


def encoded(content: Any) -> bytes:
    return json.dumps(content).encode()  # Python writes NaN and Infinity, as careless clients do


@FUZZ
@given(st.sampled_from(MODELS), st.binary(max_size=200))
def test_any_bytes(fuzzed: Shop, model: str, body: bytes) -> None:
    for path in (f"/predict/{model}", f"/v2/models/{model}/infer", "/outcomes"):
        check(fuzzed, path, body)


@FUZZ
@given(st.sampled_from(MODELS), JSON)
def test_any_json(fuzzed: Shop, model: str, content: Any) -> None:
    for path in (f"/predict/{model}", f"/v2/models/{model}/infer", "/outcomes"):
        check(fuzzed, path, encoded(content))


@FUZZ
@given(st.sampled_from(MODELS), st.lists(ROW, max_size=3), st.dictionaries(NAMES, JSON, max_size=2))
def test_rows_that_are_nearly_right(fuzzed: Shop, model: str, rows: list[dict[str, Any]], more: dict[str, Any]) -> None:
    check(fuzzed, f"/predict/{model}", encoded({**more, "rows": [GOOD[model] | row for row in rows]}))
    for row in rows:
        check(fuzzed, f"/predict/{model}", encoded(GOOD[model] | {k: v for k, v in row.items() if k in GOOD[model]}))


@FUZZ
@given(st.sampled_from(MODELS), st.data())
def test_rows_that_are_right_are_answered(fuzzed: Shop, model: str, data: st.DataObject) -> None:
    kinds = {float: st.floats(-1e6, 1e6), int: st.integers(-1_000_000, 1_000_000), bool: st.booleans()}
    row = {
        name: data.draw(kinds.get(type(value), st.sampled_from(["red", "green"])))
        for name, value in GOOD[model].items()
    }
    assert check(fuzzed, f"/predict/{model}", encoded({"rows": [row]})) == 200


@FUZZ
@given(st.sampled_from(MODELS), st.lists(TENSOR, max_size=4), st.dictionaries(st.sampled_from(["id", "outputs"]), JSON))
def test_tensors_that_are_nearly_right(
    fuzzed: Shop, model: str, inputs: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    check(fuzzed, f"/v2/models/{model}/infer", encoded({"inputs": inputs, **more}))


@FUZZ
@given(st.text(max_size=30), st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE"]))
def test_any_path(fuzzed: Shop, path: str, method: str) -> None:
    for prefix in ("/", "/predict/", "/v2/models/", "/v2/models/bikes/versions/"):
        response = fuzzed.engine.handle(method, prefix + path, [], b"{}")
        assert response.status < 500


@FUZZ
@given(st.lists(st.tuples(st.sampled_from([b"x-request-id", b"x-unit-id", b"accept"]), st.binary(max_size=12))))
def test_any_headers(fuzzed: Shop, headers: list[tuple[bytes, bytes]]) -> None:
    response = fuzzed.engine.handle("POST", "/predict/bikes", headers, encoded(GOOD["bikes"]))
    assert response.status == 200
    assert all(value.isascii() and value.decode().isprintable() for _, value in response.headers)
