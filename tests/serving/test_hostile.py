"""Bombs, lies and broken bytes in raw tensors, protobuf, tables and paths: refused at once, with what is wrong."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.fuzz_binary import MIXED, NUMBERS, body, one, seeds, tensor

from tidewheel.errors import InvalidInput, TidewheelError, TooLarge, ValidationFailed
from tidewheel.predictions.block import Block
from tidewheel.serving.ask import NOBODY, Ask
from tidewheel.serving.binary import DTYPES, HEADER_LENGTH, raw_of, values_of
from tidewheel.serving.tensors import TensorCodec

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

FUZZ = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
BIG = 10**18


def decode(codec: TensorCodec, inputs: list[dict[str, Any]], raw: bytes, **more: Any) -> Ask:
    data, length = body(inputs, raw, **more)
    return codec.decode(data, NOBODY, [(HEADER_LENGTH, b"%d" % length)])


def matrix(raw: bytes, shape: list[int], datatype: str = "FP32", size: int | None = None) -> Ask:
    return decode(NUMBERS, [tensor("x", datatype, shape, len(raw) if size is None else size)], raw)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("FP16", [1.5, -2.0]),
        ("FP32", [1.5, -2.0]),
        ("FP64", [1.5, -2.0]),
        *((name, [1, 100]) for name in ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")),
    ],
)
@pytest.mark.parametrize("rows", [1, 20])
def test_every_datatype_is_read(datatype: str, values: list[Any], rows: int) -> None:
    raw = np.array(values * rows, DTYPES[datatype]).tobytes()
    assert list(matrix(raw, [rows, 2], datatype).rows) == [tuple(map(float, values))] * rows
    assert raw_of(datatype, values * rows) == raw


@pytest.mark.parametrize("rows", [1, 20])
def test_bf16_is_the_upper_half_of_fp32(rows: int) -> None:
    raw = np.array([1.5, -2.0] * rows, np.float32).view(np.uint16)[1::2].tobytes()
    assert list(matrix(raw, [rows, 2], "BF16").rows) == [(1.5, -2.0)] * rows


def test_many_rows_are_one_matrix_and_few_are_rows() -> None:
    assert isinstance(matrix(bytes(8 * 20), [20, 2]).rows, Block)
    assert isinstance(matrix(bytes(8 * 2), [2, 2]).rows, list)


@FUZZ
@given(st.lists(st.text(max_size=5), max_size=5))
def test_text_comes_back(texts: list[str]) -> None:
    assert values_of("BYTES", [len(texts)], memoryview(raw_of("BYTES", texts))) == texts


@pytest.mark.parametrize(
    ("raw", "shape", "datatype", "what"),
    [
        (bytes(8), [BIG, 2], "FP32", "rows"),
        (bytes(8), [2, BIG], "FP32", "one matrix of all columns"),
        (bytes(8), [2**63, 2], "FP64", "rows"),
        (bytes(8), [10**30, 10**30], "FP64", "one matrix"),
        (bytes(8), [-1, 2], "FP32", "no rows"),
        (bytes(8), [1, -2], "FP32", "one matrix"),
        (bytes(7), [1, 2], "FP32", "7 bytes; the shape [1, 2] of FP32 takes 8"),
        (bytes(9), [1, 2], "FP32", "9 bytes"),
        (b"", [1, 2], "FP32", "0 bytes"),
        (bytes(8), [1, 2], "FP128", "not known"),
        (b"\1\2", [1, 2], "BOOL", "0 or 1"),
        (struct.pack("<I", 2**32 - 1) + bytes(8), [1, 2], "BYTES", "beyond the end"),
        (struct.pack("<I", 4) + bytes(4), [1, 2], "BYTES", "ends before text 1"),
        (struct.pack("<II", 0, 0) + b"x", [1, 2], "BYTES", "1 bytes are left over"),
        (bytes(4), [5000, 2], "BYTES", "take at least 40,000"),
        (struct.pack("<II", 0, 1), [1, 2], "BYTES", "text 1 announces 1 bytes, beyond the end"),
        (struct.pack("<I", 1) + b"\xff" + bytes(4), [1, 2], "BYTES", "not UTF-8"),
    ],
)
def test_a_tensor_that_is_not_what_it_says_is_refused(raw: bytes, shape: list[int], datatype: str, what: str) -> None:
    with pytest.raises((ValidationFailed, TooLarge)) as caught:
        matrix(raw, shape, datatype)
    assert what in caught.value.what


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_where_nothing_may_be_missing(rows: int, value: float) -> None:
    values = np.zeros((rows, 2), np.float32)
    values[-1, 1] = value
    with pytest.raises(ValidationFailed) as caught:
        matrix(values.tobytes(), [rows, 2])
    problem: Any = caught.value.findings[0]
    assert problem.where == f"$.inputs[0].data row {rows - 1}.b"
    assert "finite" in problem.what


@pytest.mark.parametrize("rows", [1, 20])
def test_nan_is_a_missing_value_where_the_field_may_be_null_and_infinity_is_not(rows: int) -> None:
    def ask(value: float) -> Ask:
        inputs = [
            tensor("a", "FP64", [rows], 8 * rows),
            tensor("n", "INT64", [rows], 8 * rows),
            tensor("new", "BOOL", [rows], rows),
            tensor("color", "BYTES", [rows], 7 * rows),
        ]
        raw = struct.pack(f"<{rows}d", *[value] * rows) + bytes(9 * rows) + raw_of("BYTES", ["red"] * rows)
        return decode(MIXED, inputs, raw)

    assert list(ask(np.nan).rows) == [(None, 0, False, "red")] * rows
    with pytest.raises(ValidationFailed, match="finite"):
        ask(np.inf)


def test_a_number_beyond_float32_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="finite number between"):
        matrix(struct.pack("<40d", *[1e300] * 40), [20, 2], "FP64")


@pytest.mark.parametrize("size", [-1, 1.5, "8", True, [8], 10**30])
def test_a_size_is_a_whole_number_that_fits(size: Any) -> None:
    with pytest.raises((ValidationFailed, InvalidInput)):
        matrix(bytes(8), [1, 2], size=size)


@pytest.mark.parametrize("length", [b"", b"-1", b"x", b"999999", b"1" * 4000, "²".encode(), b"1.5"])
def test_a_length_of_the_json_that_does_not_fit_is_refused(length: bytes) -> None:
    data, _ = body([tensor("x", "FP32", [1, 2], 8)], bytes(8))
    with pytest.raises(InvalidInput, match="Content-Length"):
        NUMBERS.decode(data, NOBODY, [(HEADER_LENGTH, length)])


@pytest.mark.parametrize("size", [4, 12])
def test_sizes_that_do_not_add_up_are_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match="follow the JSON"):
        matrix(bytes(8), [1, 2], size=size)


def test_raw_tensors_without_the_header_are_told_of_it() -> None:
    data, length = body([tensor("x", "FP32", [1, 2], 8)], b"")
    assert length == len(data)
    with pytest.raises(InvalidInput, match="Inference-Header-Content-Length"):
        NUMBERS.decode(data, NOBODY)


def test_a_tensor_is_given_once() -> None:
    with pytest.raises(ValidationFailed, match="once"):
        decode(NUMBERS, [tensor("x", "FP32", [1, 2], 8) | {"data": [1, 2]}], bytes(8))
    with pytest.raises(ValidationFailed, match="missing"):
        decode(NUMBERS, [{"name": "x", "datatype": "FP32", "shape": [1, 2]}], b"")


@FUZZ
@given(st.binary(max_size=400))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    one(data)


@FUZZ
@given(st.sampled_from(list(seeds())), st.data())
def test_damaged_requests_are_decoded_or_refused(seed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        damaged[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    one(bytes(damaged))


def test_good_requests_are_decoded() -> None:
    for seed, codec in zip(seeds(), (MIXED, NUMBERS, NUMBERS), strict=True):
        length = int.from_bytes(seed[:2], "big")
        if length != 0xFFFF:
            assert codec.decode(seed[2:], NOBODY, [(HEADER_LENGTH, b"%d" % length)]).rows


@pytest.mark.slow
def test_fuzzing_led_by_coverage_finds_nothing(tmp_path: Path) -> None:
    for number, seed in enumerate(seeds()):
        (tmp_path / str(number)).write_bytes(seed)
    words = ["-m", "tests.serving.fuzz_binary", "-runs=20000", "-max_len=600", "-seed=1", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, check=False, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stderr[-3_000:]


TRICKS = [
    "../bikes",
    "..%2fbikes",
    "%2e%2e/%2e%2e/etc/passwd",
    "bikes/../bikes",
    "bikes\x00",
    "\x00",
    "bikes/",
    "/bikes",
    "//bikes",
    "bikes\\..\\x",
    "b" * 5_000,
    "bikes\ud800",
    "\uff42\uff49\uff4b\uff45\uff53",
    "bikes%00",
    "bikes?x=1",
    "{0.__class__}",
]


def test_tricks_in_model_names_find_nothing(shop: Shop) -> None:
    before = {path for path in shop.store.home.rglob("*") if "log" not in path.parts}
    good = json.dumps({"a": 1, "b": 2, "n": 3}).encode()
    paths = (
        "/predict/%s",
        "/v2/models/%s/infer",
        "/v2/models/%s/versions/1/infer",
        "/invocations/%s",
        "/v2/repository/models/%s/load",
        "/v2/repository/models/%s/unload",
    )
    for path in (each % name for name in TRICKS for each in paths):
        response = shop.engine.handle("POST", path, [], good)
        assert 400 <= response.status < 500, (path, response)
        assert json.loads(response.body)["error"]
    assert {path for path in shop.store.home.rglob("*") if "log" not in path.parts} == before


def test_versions_are_named_exactly(shop: Shop) -> None:
    for version in ("../1", "01", "1.0", "-1", "1e0", " 1", "\uff11", "9" * 5_000, "latest"):
        response = shop.engine.handle("POST", f"/v2/models/bikes/versions/{version}/infer", [], b"{}")
        assert response.status in (404, 405)


def test_of_a_key_that_is_given_twice_the_last_counts_as_everywhere_in_json(shop: Shop) -> None:
    row = b'{"a": 1, "b": 2, "n": 3, "a": -1}'
    (twice,) = shop.ask(row)["predictions"]
    assert twice == shop.ask({"a": -1, "b": 2, "n": 3})["predictions"][0]


NUMERALS = (b"1e400", b"-1e400", b"NaN", b"Infinity", b"1" * 5_000, b"1e39", b'"NaN"', b"0x10")


def test_numbers_that_no_model_takes_are_refused(shop: Shop) -> None:
    bodies = (
        ("/predict/bikes", b'{"a": %s, "b": 2, "n": 3}'),
        ("/invocations", b'{"instances": [{"a": %s, "b": 2, "n": 3}]}'),
        ("/v2/models/bikes/infer", b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,3],"data":[%s,1,1]}]}'),
    )
    for (path, content), number in product(bodies, NUMERALS):
        response = shop.engine.handle("POST", path, [], content % number)
        assert response.status in (400, 422), (path, number, response)


@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"'])
def test_text_that_is_no_unicode_is_refused(shop: Shop, text: bytes) -> None:
    shop.register("colors", "paint")
    shop.deploy(1, "paint")
    for path, content in (
        ("/predict/paint", b'{"color": %s, "size": 1, "new": true}'),
        ("/invocations/paint", b'{"instances": [{"color": %s, "size": 1, "new": true}]}'),
        (
            "/v2/models/paint/infer",
            b'{"inputs":[{"name":"color","datatype":"BYTES","shape":[1],"data":[%s]}]}',
        ),
    ):
        response = shop.engine.handle("POST", path, [], content % text)
        assert response.status in (400, 422), (path, response)


@pytest.mark.parametrize("number", ["3.0", "3e0", "-0.0"])
def test_a_whole_number_may_be_written_with_a_point(shop: Shop, number: str) -> None:
    whole = int(float(number))
    for text in ('{"a": 1, "b": 2, "n": %s}', '{"rows": [{"a": 1, "b": 2, "n": %s}], "id": "r1"}'):
        assert (
            shop.ask((text % number).encode())["predictions"] == shop.ask({"a": 1, "b": 2, "n": whole})["predictions"]
        )
    logged = shop.log()[0].features[0][2]
    assert (logged, type(logged)) == (whole, int)
    assert shop.post("/predict/bikes", b'{"a": 1, "b": 2, "n": 3.5}').status == 422


def test_a_compressed_body_is_refused_unread(shop: Shop) -> None:
    import gzip

    bomb = gzip.compress(b"0" * 50_000_000)
    response = shop.engine.handle("POST", "/predict/bikes", [(b"content-encoding", b"gzip")], bomb)
    assert response.status == 400


def test_refusals_are_no_slower_than_answers(shop: Shop) -> None:
    """A shape of a million sizes costs no arithmetic on huge numbers."""
    inputs = [{"name": "x", "datatype": "FP32", "shape": [10**18] * 100_000, "data": []}]
    with pytest.raises(TidewheelError):
        NUMBERS.decode(json.dumps({"inputs": inputs}).encode(), NOBODY)
