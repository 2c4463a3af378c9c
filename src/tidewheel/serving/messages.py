"""Inference requests and answers as protobuf messages, as gRPC carries them: typed contents, or raw ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidewheel.errors import InvalidInput, ValidationFailed
from tidewheel.serving.ask import Ask, Caller
from tidewheel.serving.binary import DTYPES, raw_of
from tidewheel.serving.outputs import Inferred
from tidewheel.serving.problems import refuse_problems
from tidewheel.serving.proto import message
from tidewheel.serving.response import Header, Problem
from tidewheel.serving.tensors import InferRequest, Output, Payload, Tensor, TensorCodec

PROTOBUF: Header = (b"content-type", b"application/x-protobuf")  # of a ModelInferRequest or ModelInferResponse
RAW, TYPED = "raw", "typed"  # the ways that contents are written

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_PARAMETERS: Mapping[type, str] = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}


def decode_message(codec: TensorCodec, body: bytes, caller: Caller) -> Ask:
    """Return what a ModelInferRequest asks for.

    Raises InvalidInput for bytes that are none, and for raw contents that are not one per input; else as
    TensorCodec.take.
    """
    from google.protobuf.message import DecodeError

    try:
        request = message("ModelInferRequest").FromString(body)
    except DecodeError as error:
        raise InvalidInput("The body is not a ModelInferRequest.", "Send one message of the protocol.") from error
    if not request.inputs:
        raise _one("$.inputs", "empty; give one input per column, or one matrix")
    asked = InferRequest(
        id=request.id or None,
        parameters=_plain(request.parameters) or None,
        inputs=[Tensor(name=each.name, datatype=each.datatype, shape=list(each.shape)) for each in request.inputs],
        outputs=[Output(name=each.name, parameters=_plain(each.parameters)) for each in request.outputs] or None,
    )
    ask = codec.take(asked, caller, _payloads(request))
    ask.wire = RAW if request.raw_input_contents else TYPED
    return ask


def encode_message(content: Inferred, *, raw: bool) -> bytes:
    """Return a ModelInferResponse."""
    response = message("ModelInferResponse")(
        model_name=content.model_name, model_version=content.model_version, id=content.id
    )
    for name, value in content.parameters.items():
        kept = "; ".join(map(str, value)) if isinstance(value, list) else value
        setattr(response.parameters[name], _PARAMETERS.get(type(kept), "string_param"), kept)
    for tensor in content.outputs:
        datatype, values = tensor["datatype"], tensor["data"]
        output = response.outputs.add(name=tensor["name"], datatype=datatype, shape=tensor["shape"])
        if raw:
            response.raw_output_contents.append(raw_of(datatype, values))
        else:
            typed = [value.encode() for value in values] if datatype == "BYTES" else values
            getattr(output.contents, _CONTENTS[datatype]).extend(typed)
    written: bytes = response.SerializeToString()
    return written


def _payloads(request: Any) -> list[Payload]:
    raw = request.raw_input_contents
    if not raw:
        return [_typed(each, place) for place, each in enumerate(request.inputs)]
    if len(raw) != len(request.inputs) or any(each.HasField("contents") for each in request.inputs):
        raise InvalidInput(
            f"The request has {len(request.inputs)} inputs and {len(raw)} raw contents.",
            "Give every input its raw contents, in order, and no typed ones; or typed ones throughout.",
        )
    return [memoryview(each) for each in raw]


def _typed(tensor: Any, place: int) -> Payload:
    """Return the typed contents of one input."""
    where = f"$.inputs[{place}]"
    name = _CONTENTS.get(tensor.datatype)
    if name is None:
        if tensor.datatype in DTYPES:
            raise _one(f"{where}.contents", f"{tensor.datatype} has no typed form; give raw_input_contents")
        raise _one(f"{where}.datatype", f"{tensor.datatype[:60]!r} is not known; use FP64, INT64, BOOL or BYTES")
    others = [field.name for field, _ in tensor.contents.ListFields() if field.name != name]
    if others:
        raise _one(f"{where}.contents", f"{tensor.datatype} stands in {name}, not in {others[0]}")
    values = getattr(tensor.contents, name)
    if tensor.datatype == "BYTES":
        return _texts(values, f"{where}.contents")
    if tensor.datatype == "BOOL":
        return np.array(values, np.bool_)
    try:
        return np.array(values, DTYPES[tensor.datatype])
    except OverflowError as error:
        raise _one(f"{where}.contents", f"a number is outside of {tensor.datatype}") from error


def _texts(values: Sequence[bytes], where: str) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise _one(where, "a text is not UTF-8") from error


def _plain(parameters: Any) -> dict[str, Any]:
    """Return parameters as Python's values; one without a choice is left out."""
    chosen = ((name, value, value.WhichOneof("parameter_choice")) for name, value in parameters.items())
    return {name: getattr(value, choice) for name, value, choice in chosen if choice}


def _one(where: str, what: str) -> ValidationFailed:
    return refuse_problems([Problem(where=where, what=what)], ())
