"""Open Inference Protocol v2 over REST: tensors to rows, and answers to tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from tidewheel.errors import InvalidInput, NotFound, TidewheelError, ValidationFailed
from tidewheel.models.signature import Field, Signature
from tidewheel.serving.ask import MAX_ROWS, Ask, Caller, Row, identify
from tidewheel.serving.problems import MOST, parse, refuse_problems, row_problems, too_many_rows
from tidewheel.serving.response import Problem
from tidewheel.serving.rows import TYPES, RowCodec

DATATYPES: Mapping[str, str] = {"float": "FP64", "int": "INT64", "bool": "BOOL", "string": "BYTES", "datetime": "BYTES"}
PREDICT = "predict"
PROBABILITIES = "predict_proba"

_FLOATS = {"FP16", "FP32", "FP64", "BF16"}
_INTS = {f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
_PLACE = re.compile(r" - at `\$(.*)`$")


class Tensor(msgspec.Struct, gc=False):
    """One input of a request; its data is decoded once its type is known."""

    name: str  # a column, or anything for one matrix of all columns
    datatype: str  # FP32, INT64, BOOL, BYTES ...
    shape: list[int]  # [n], [n, 1] or [n, fields]
    data: msgspec.Raw  # flat in row-major order, or nested as the shape says
    parameters: dict[str, Any] | None = None  # extensions


class Output(msgspec.Struct, gc=False):
    """One output that the caller wants."""

    name: str  # predict or predict_proba
    parameters: dict[str, Any] | None = None  # extensions


class InferRequest(msgspec.Struct, gc=False):
    """An inference request as the protocol defines it; unknown fields are allowed."""

    inputs: Annotated[list[Tensor], Meta(min_length=1)]  # one per column, or one matrix
    id: str | None = None  # comes back in the answer
    parameters: dict[str, Any] | None = None  # come back in the answer; "unit" keys the split
    outputs: list[Output] | None = None  # all of them when absent


class TensorCodec:
    """Decodes inference requests for one signature.

    >>> codec = TensorCodec(RowCodec([Field(name="a", kind="float"), Field(name="b", kind="float")]))
    >>> body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}'
    >>> codec.decode(body, Caller("r1", "", b"")).rows
    [(1.0, 2.0)]
    """

    def __init__(self, rows: RowCodec) -> None:
        self._rows = rows
        self._fields = (*rows.fields, *rows.extra)
        self._known = {field.name: field for field in self._fields}
        self._floats = all(field.kind == "float" for field in rows.fields)
        self._request = msgspec.json.Decoder(InferRequest)
        nullable = any(field.nullable for field in self._fields)
        self._flat = {kind: _list_decoder(kind, nullable=nullable, nested=False) for kind in TYPES}
        self._nested = {kind: _list_decoder(kind, nullable=nullable, nested=True) for kind in TYPES}

    def decode(self, body: bytes, caller: Caller) -> Ask:
        """Return the request of a body.

        Raises InvalidInput for what is no JSON, with its position, or asks for binary tensors, TooLarge for too many
        rows, ValidationFailed with every place that does not fit (up to ten).
        """
        try:
            request = self._request.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _refuse(body, error) from error
        _refuse_binary(request)
        request_id, echo = identify(request.id, caller)
        first = request.inputs[0]
        if len(request.inputs) == 1 and first.name not in self._known and len(first.shape) == 2:
            rows = self._matrix(first)
        else:
            rows = self._columns(request.inputs)
        notes = self._rows.inspect(rows)
        unit = (request.parameters or {}).get("unit")
        keyed = str(unit) if isinstance(unit, str | int) else caller.unit
        wanted = None if request.outputs is None else [output.name for output in request.outputs]
        return Ask(request_id, keyed, rows, echo, notes, wanted, request.parameters)

    def _matrix(self, tensor: Tensor) -> list[Row]:
        fields = self._rows.fields
        count, width = tensor.shape
        if width != len(fields):
            raise _one(
                "$.inputs[0].shape", f"{tensor.shape}; one matrix of all columns is [n, {len(fields)}]", self._fields
            )
        _check_count(count, "$.inputs[0].shape", self._fields)
        data = self._data(tensor, 0)
        rows: list[Row] = [tuple(data[at : at + width]) for at in range(0, count * width, width)]
        if self._floats and tensor.datatype in _FLOATS:
            if None in data:
                self._check_rows(rows)
        else:
            rows = self._fit(list(zip(*rows, strict=True)), "$.inputs[0].data")
        return [(*row, *(UNSET for _ in self._rows.extra)) for row in rows] if self._rows.extra else rows

    def _columns(self, tensors: Sequence[Tensor]) -> list[Row]:
        named = {tensor.name: place for place, tensor in enumerate(tensors)}
        if problems := self._misnamed(named, len(tensors)):
            raise refuse_problems(problems, self._fields)
        count = tensors[0].shape[0] if tensors[0].shape else 0
        _check_count(count, "$.inputs[0].shape", self._fields)
        columns: list[Sequence[Any]] = []
        for field in self._fields:
            place = named.get(field.name)
            if place is None:
                columns.append([UNSET] * count)
                continue
            tensor = tensors[place]
            if tensor.shape not in ([count], [count, 1]):
                where = f"$.inputs[{place}].shape"
                raise _one(
                    where, f"{tensor.shape}; a column is [n] or [n, 1], with n = {count} as in the first", [field]
                )
            columns.append(self._data(tensor, place))
        return self._fit(columns, "$.inputs")

    def _misnamed(self, named: Mapping[str, int], count: int) -> list[Problem]:
        # A row of the wanted names, with any value, goes through the words of /predict.
        row = dict.fromkeys(named)
        loose = [msgspec.structs.replace(field, nullable=True) for field in self._fields]
        required, extra = loose[: len(self._rows.fields)], loose[len(self._rows.fields) :]
        problems = list(row_problems("$.inputs", row, required, extra))[:MOST]
        if len(named) != count:
            problems.append(Problem(where="$.inputs", what="two inputs have the same name"))
        return problems

    def _data(self, tensor: Tensor, place: int) -> list[Any]:
        """Return the elements of a tensor in row-major order, checked against its datatype and shape."""
        where = f"$.inputs[{place}]"
        kind = _kind(tensor.datatype, f"{where}.datatype", self._fields)
        if any(size < 0 for size in tensor.shape):
            raise _one(f"{where}.shape", f"{tensor.shape}; a size cannot be negative", self._fields)
        try:
            data: list[Any] = self._flat[kind].decode(tensor.data)
        except msgspec.ValidationError as error:
            data = self._unnested(tensor, kind, f"{where}.data", error)
        if len(data) != prod(tensor.shape):
            what = f"{len(data)} values; the shape {tensor.shape} holds {prod(tensor.shape)}"
            raise _one(f"{where}.data", what, self._fields)
        return data

    def _unnested(self, tensor: Tensor, kind: str, where: str, flat: msgspec.ValidationError) -> list[Any]:
        try:
            nested = self._nested[kind].decode(tensor.data)
        except msgspec.ValidationError as error:
            first = bytes(tensor.data).lstrip()[1:].lstrip()[:1]
            raise located(error if first == b"[" else flat, where, self._fields) from error
        if len(tensor.shape) != 2 or any(len(row) != tensor.shape[1] for row in nested):
            raise _one(where, f"nested otherwise than the shape {tensor.shape}", self._fields)
        return list(chain.from_iterable(nested))

    def _fit(self, columns: Sequence[Sequence[Any]], where: str) -> list[Row]:
        """Turn the columns into the kinds of their fields, and the whole into rows."""
        fields = self._fields[: len(columns)]
        fitted = [_as_kind(values, field) for values, field in zip(columns, fields, strict=True)]
        rows: list[Row] = list(zip(*fitted, strict=True))
        self._check_rows(rows, where)
        return rows

    def _check_rows(self, rows: Sequence[Row], where: str = "$.inputs[0].data") -> None:
        fields = self._rows.fields
        problems: list[Problem] = []
        for number, row in enumerate(rows):
            named = {field.name: value for field, value in zip(self._fields, row, strict=False) if value is not UNSET}
            problems += row_problems(f"{where} row {number}", named, fields, self._rows.extra)
            if len(problems) >= MOST:
                break
        if problems:
            raise refuse_problems(problems[:MOST], fields)


def model_metadata(name: str, versions: Sequence[int], signature: Signature, platform: str) -> dict[str, Any]:
    """Return what the protocol's model metadata says: a tensor per column, or one matrix, in; predictions out."""
    inputs = [{"name": each.name, "datatype": DATATYPES[each.kind], "shape": [-1]} for each in signature.fields]
    outputs: list[dict[str, Any]] = [{"name": PREDICT, "datatype": answer_datatype(signature), "shape": [-1]}]
    if signature.probabilities and signature.classes:
        outputs.append({"name": PROBABILITIES, "datatype": "FP64", "shape": [-1, len(signature.classes)]})
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": platform,
        "inputs": inputs,
        "outputs": outputs,
    }


def answer_datatype(signature: Signature) -> str:
    """Return the datatype of the predictions."""
    kinds = {type(label) for label in signature.classes or [0.0]}
    if len(kinds) > 1:
        return "BYTES" if str in kinds else "FP64"
    return {bool: "BOOL", int: "INT64", str: "BYTES"}.get(kinds.pop(), "FP64")


def check_outputs(wanted: Sequence[str] | None, signature: Signature) -> None:
    """Refuse outputs that the model does not have, with NotFound."""
    have = [PREDICT, *([PROBABILITIES] if signature.probabilities else [])]
    for name in wanted or ():
        if name not in have:
            raise NotFound("output", name, have)


def answer_tensors(
    wanted: Sequence[str] | None, signature: Signature, output: Sequence[Any], probability: Sequence[Any] | None
) -> list[dict[str, Any]]:
    """Return the output tensors of an answer."""
    datatype = answer_datatype(signature)
    values = [str(value) for value in output] if datatype == "BYTES" else output
    tensors = [{"name": PREDICT, "datatype": datatype, "shape": [len(output)], "data": values}]
    if probability is not None:
        flat = list(chain.from_iterable(probability))
        shape = [len(output), len(flat) // max(len(output), 1)]
        tensors.append({"name": PROBABILITIES, "datatype": "FP64", "shape": shape, "data": flat})
    return tensors if wanted is None else [tensor for tensor in tensors if tensor["name"] in wanted]


def _kind(datatype: str, where: str, fields: Sequence[Field]) -> str:
    if datatype in _FLOATS:
        return "float"
    if datatype in _INTS:
        return "int"
    if datatype in ("BOOL", "BYTES"):
        return "bool" if datatype == "BOOL" else "string"
    raise _one(where, f"{datatype[:60]!r} is not known; use FP64, INT64, BOOL, BYTES or a narrower number", fields)


def _as_kind(values: Sequence[Any], field: Field) -> Sequence[Any]:
    """Return numbers as the numbers a field wants, where nothing is lost; anything else as it is."""
    if field.kind == "float":
        return [float(value) if type(value) is int else value for value in values]
    if field.kind == "int":
        return [int(value) if type(value) is float and value.is_integer() else value for value in values]
    if field.kind == "bool":
        return [bool(value) if type(value) in (int, float) and value in (0, 1) else value for value in values]
    return values


def _list_decoder(kind: str, *, nullable: bool, nested: bool) -> msgspec.json.Decoder[Any]:
    element = TYPES[kind] | None if nullable else TYPES[kind]
    return msgspec.json.Decoder(list[list[element]] if nested else list[element])  # type: ignore[valid-type]


def _refuse(body: bytes, error: Exception) -> TidewheelError:
    content = parse(body)
    if isinstance(content, TidewheelError):
        return content
    if isinstance(error, msgspec.ValidationError):
        return located(error, "$", ())
    return InvalidInput(f"The body cannot be read: {error}.", "Send an inference request as JSON.")


def located(error: msgspec.ValidationError, where: str, fields: Sequence[Field]) -> ValidationFailed:
    """Turn msgspec's words and its path below `where` into a problem."""
    text = str(error)
    found = _PLACE.search(text)
    path = where + found.group(1) if found else where
    return _one(path, _PLACE.sub("", text).replace("`", ""), fields)


def _one(where: str, what: str, fields: Sequence[Field]) -> ValidationFailed:
    return refuse_problems([Problem(where=where, what=what)], fields)


def _check_count(count: int, where: str, fields: Sequence[Field]) -> None:
    if count > MAX_ROWS:
        raise too_many_rows(count)
    if count < 1:
        raise _one(where, "no rows; give at least one", fields)


def _refuse_binary(request: InferRequest) -> None:
    sized = any("binary_data_size" in (tensor.parameters or {}) for tensor in request.inputs)
    asked = any((output.parameters or {}).get("binary_data") for output in request.outputs or ())
    if sized or asked or (request.parameters or {}).get("binary_data_output"):
        raise InvalidInput(
            "Binary tensors are not offered by this server.",
            "Send and ask for JSON: binary_data=False in tritonclient, for inputs and outputs.",
        )
