"""Open Inference Protocol v2: every legal shape of the same rows, and each illegal one with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tidewheel.errors import InvalidInput, NotFound, TooLarge, ValidationFailed
from tidewheel.models.signature import Field, Signature
from tidewheel.serving.ask import NOBODY, Ask, Caller
from tidewheel.serving.outputs import answer_datatype, answer_tensors, check_outputs
from tidewheel.serving.rows import RowCodec
from tidewheel.serving.tensors import TensorCodec

FIELDS = [
    Field(name="a", kind="float"),
    Field(name="n", kind="int"),
    Field(name="new", kind="bool"),
    Field(name="color", kind="string", categories=["red"]),
]
CODEC = TensorCodec(RowCodec(FIELDS))
FLOATS = TensorCodec(RowCodec([Field(name="a", kind="float"), Field(name="b", kind="float", nullable=True)]))
COUNTS = TensorCodec(RowCodec([Field(name="n", kind="int"), Field(name="new", kind="bool")]))


def tensor(name: str, datatype: str, data: Any, shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


GOOD = [
    tensor("a", "FP32", [1.5, 2]),
    tensor("n", "INT64", [3, 4]),
    tensor("new", "BOOL", [True, False]),
    tensor("color", "BYTES", ["red", "blue"]),
]


def decode(codec: TensorCodec, inputs: Any, caller: Caller = NOBODY, **more: Any) -> Ask:
    return codec.decode(json.dumps({"inputs": inputs, **more}).encode(), caller)


def refusal(codec: TensorCodec, inputs: Any, **more: Any) -> tuple[str, str]:
    with pytest.raises(ValidationFailed) as caught:
        decode(codec, inputs, **more)
    problem: Any = caught.value.findings[0]
    return problem.where, problem.what


@pytest.mark.parametrize("shape", [[2], [2, 1]])
@pytest.mark.parametrize("nested", [False, True])
def test_one_tensor_per_column_flat_or_nested(shape: list[int], nested: bool) -> None:
    inputs = [each | {"shape": shape} for each in GOOD]
    if nested and len(shape) == 2:
        inputs = [each | {"data": [[value] for value in each["data"]]} for each in inputs]
    ask = decode(CODEC, list(reversed(inputs)))  # the order of the tensors does not matter
    assert ask.rows == [(1.5, 3, True, "red"), (2.0, 4, False, "blue")]
    assert ask.notes == ["$.rows[1].color: 'blue' was not seen in training"]


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "INT64", "UINT32"])
@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_one_matrix_of_all_columns(datatype: str, data: Any) -> None:
    assert decode(FLOATS, [tensor("input-0", datatype, data, [2, 2])]).rows == [(1.0, 2.0), (3.0, 4.0)]


def test_a_matrix_becomes_the_kinds_of_its_fields() -> None:
    (row,) = decode(COUNTS, [tensor("x", "FP32", [3.0, 1.0], [1, 2])]).rows
    assert row == (3, True)
    assert [type(value) for value in row] == [int, bool]
    assert refusal(COUNTS, [tensor("x", "FP32", [3.5, 1.0], [1, 2])])[1].startswith("a whole number")
    assert refusal(COUNTS, [tensor("x", "FP32", [3.0, 2.0], [1, 2])])[1].startswith("true or false")


def test_null_stands_for_missing_where_the_model_allows_it() -> None:
    assert decode(FLOATS, [tensor("x", "FP64", [1, None], [1, 2])]).rows == [(1.0, None)]
    where, what = refusal(FLOATS, [tensor("x", "FP64", [None, 1], [1, 2])])
    assert (where, what) == ("$.inputs[0].data row 0.a", "null; a number is needed")
    assert "null" in refusal(COUNTS, [tensor("x", "FP64", [None, 1], [1, 2])])[1]


def test_ids_parameters_units_and_outputs_are_kept() -> None:
    ask = decode(CODEC, GOOD, id="r1", parameters={"unit": 7, "mine": "yes"}, outputs=[{"name": "predict"}])
    assert (ask.id, ask.unit, ask.wanted) == ("r1", "7", ["predict"])
    assert ask.parameters == {"unit": 7, "mine": "yes"}
    assert decode(CODEC, GOOD, Caller("h", "u", b"h")).unit == "u"


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        ({"datatype": "FP128"}, "$.inputs[0].datatype", "'FP128' is not known"),
        ({"datatype": "BYTES"}, "$.inputs[0].data[0]", "Expected str, got float"),
        ({"data": [1.5]}, "$.inputs[0].data", "1 values; the shape [2] holds 2"),
        ({"data": [1.5, "2"]}, "$.inputs[0].data[1]", "Expected float, got str"),
        ({"data": [1.5, True]}, "$.inputs[0].data[1]", "Expected float, got bool"),
        ({"data": [1.5, 1e39]}, "$.inputs[0].data[1]", "Expected float <= 3.4"),
        ({"data": [[1.5, 2]]}, "$.inputs[0].data", "nested otherwise than the shape [2]"),
        ({"data": [[1.5, [2]]]}, "$.inputs[0].data[0][1]", "Expected float, got array"),
        ({"data": {"a": 1}}, "$.inputs[0].data", "Expected array, got object"),
        ({"shape": [-2]}, "$.inputs[0].shape", "no rows"),
        ({"shape": [2, 2]}, "$.inputs[0].shape", "[2, 2]; a column is [n] or [n, 1]"),
        ({"shape": []}, "$.inputs[0].shape", "no rows"),
        ({"shape": [0], "data": []}, "$.inputs[0].shape", "no rows"),
        ({"shape": [3], "data": [1, 2, 3]}, "$.inputs[1].shape", "[2]; a column is [n] or [n, 1], with n = 3"),
        ({"shape": [1.5]}, "$.inputs[0].shape[0]", "Expected int, got float"),
        ({"name": "A"}, "$.inputs.a", "missing; a number"),
    ],
)
def test_what_is_wrong_with_a_tensor_is_named_with_its_place(change: dict[str, Any], where: str, what: str) -> None:
    found = refusal(CODEC, [GOOD[0] | change, *GOOD[1:]])
    assert found[0] == where
    assert found[1].startswith(what)


def test_missing_unknown_and_repeated_tensors_are_named() -> None:
    assert refusal(CODEC, GOOD[:3])[0] == "$.inputs.color"
    assert refusal(CODEC, [*GOOD, tensor("colour", "BYTES", ["x", "y"])]) == (
        "$.inputs.colour",
        "the model has no such field; did you mean 'color'?",
    )
    assert refusal(CODEC, [*GOOD, GOOD[0]])[1] == "two inputs have the same name"
    assert refusal(FLOATS, [tensor("x", "FP32", [1, 2, 3], [1, 3])])[1].startswith("[1, 3]; one matrix")


@pytest.mark.parametrize(
    "body", [{}, {"inputs": []}, {"inputs": 1}, {"inputs": [1]}, {"inputs": [{"name": "a"}]}, [], 7, "x", None]
)
def test_a_body_that_is_no_request_is_refused(body: Any) -> None:
    with pytest.raises(ValidationFailed):
        CODEC.decode(json.dumps(body).encode(), NOBODY)


@pytest.mark.parametrize("body", [b"", b"{", b'{"inputs": [{]}', b"\xff", b"[" * 100_000])
def test_invalid_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        CODEC.decode(body, NOBODY)


@pytest.mark.parametrize("count", [10_001, 10**30])
def test_a_shape_bomb_is_refused_by_its_shape(count: int) -> None:
    with pytest.raises((TooLarge, ValidationFailed)):
        decode(FLOATS, [tensor("x", "FP32", [1], [count, 2])])


@pytest.mark.parametrize(
    ("more", "raw"),
    [
        ({"parameters": {"binary_data_output": True}}, {"predict", "predict_proba"}),
        ({"outputs": [{"name": "predict", "parameters": {"binary_data": True}}]}, {"predict"}),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "predict", "parameters": {"binary_data": False}}, {"name": "predict_proba"}],
            },
            {"predict_proba"},
        ),
        ({"outputs": [{"name": "predict"}]}, set()),
    ],
)
def test_outputs_may_be_asked_for_as_raw_bytes(more: dict[str, Any], raw: set[str]) -> None:
    ask = decode(CODEC, GOOD, **more)
    assert ask.raw == raw
    assert not ask.parameters  # a wish about the answer is not echoed


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": {"binary_data_output": "yes"}},
        {"outputs": [{"name": "predict", "parameters": {"binary_data": 1}}]},
    ],
)
def test_a_wish_for_raw_bytes_is_true_or_false(more: dict[str, Any]) -> None:
    assert refusal(CODEC, GOOD, **more)[1] == "true or false is needed"


@pytest.mark.parametrize("name", ["shared_memory_region", "classification"])
def test_extensions_that_are_not_offered_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="not offered"):
        decode(CODEC, [GOOD[0] | {"parameters": {name: "x"}}, *GOOD[1:]])
    with pytest.raises(InvalidInput, match="not offered"):
        decode(CODEC, GOOD, outputs=[{"name": "predict", "parameters": {name: 2}}])


@pytest.mark.parametrize(
    ("classes", "datatype"),
    [(None, "FP64"), ([0, 1], "INT64"), (["a", "b"], "BYTES"), ([False, True], "BOOL"), ([1, "a"], "BYTES")],
)
def test_answers_have_the_datatype_of_their_labels(classes: Any, datatype: str) -> None:
    signature = Signature(task="binary" if classes else "regression", fields=FIELDS, classes=classes)
    assert answer_datatype(signature) == datatype
    (tensor_,) = answer_tensors(None, signature, classes or [0.5], None)
    assert tensor_["datatype"] == datatype


def test_only_wanted_outputs_are_answered() -> None:
    signature = Signature(task="binary", fields=FIELDS, classes=[0, 1], probabilities=True)
    both = answer_tensors(None, signature, [1, 0], [[0.2, 0.8], [0.9, 0.1]])
    assert [(each["name"], each["shape"], each["data"]) for each in both] == [
        ("predict", [2], [1, 0]),
        ("predict_proba", [2, 2], [0.2, 0.8, 0.9, 0.1]),
    ]
    assert answer_tensors(["predict_proba"], signature, [1, 0], [[0.2, 0.8], [0.9, 0.1]]) == both[1:]
    with pytest.raises(NotFound, match="predict_proba"):
        check_outputs(["predict_prob"], signature)
