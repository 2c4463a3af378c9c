"""Open Inference Protocol v2: the tensors of a request, as JSON, raw bytes or typed lists, to rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta

from tidewheel.errors import InvalidInput, TidewheelError, ValidationFailed
from tidewheel.models.signature import Field
from tidewheel.predictions.block import Block
from tidewheel.serving.ask import MAX_ROWS, Ask, Caller, Row, identify
from tidewheel.serving.binary import DATATYPES, SIZE, cut, json_length, values_of
from tidewheel.serving.fitting import FEW, as_kind, fit_columns, fit_matrix, listed
from tidewheel.serving.outputs import ALL
from tidewheel.serving.problems import FLOAT_LIMIT, MOST, parse, refuse_problems, row_problems, too_many_rows
from tidewheel.serving.response import Header, Problem
from tidewheel.serving.rows import TYPES, RowCodec

_FLOATS = {"FP16", "FP32", "FP64", "BF16"}
_PLACE = re.compile(r" - at `\$(.*)`$")
_ABSENT = msgspec.Raw()
_FOREIGN = ("shared_memory_region", "classification")  # parameters of extensions that are not offered

Payload = memoryview | np.ndarray[Any, Any] | list[str] | None  # raw bytes, typed elements; None: JSON holds the data


class Tensor(msgspec.Struct, gc=False):
    """One input of a request; its data is decoded once its type is known."""

    name: str  # a column, or anything for one matrix of all columns
    datatype: str  # FP32, INT64, BOOL, BYTES ...
    shape: list[int]  # [n], [n, 1] or [n, fields]
    data: msgspec.Raw = _ABSENT  # flat in row-major order, or nested as the shape says; absent for raw tensors
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

    def decode(self, body: bytes, caller: Caller, headers: Sequence[Header] = ()) -> Ask:
        """Return the request of a body: JSON, with raw tensors behind it where a header says so.

        Raises InvalidInput for what is no JSON, with its position, or raw tensors that do not add up, TooLarge for too
        many rows, ValidationFailed with every place that does not fit (up to ten).
        """
        length = json_length(headers, body)
        text = body if length is None else body[:length]
        try:
            request = self._request.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _refuse(text, error) from error
        sizes = [_raw_size(tensor, place) for place, tensor in enumerate(request.inputs)]
        if length is None and not any(size is not None for size in sizes):
            return self.take(request, caller)
        return self.take(request, caller, cut(memoryview(body)[len(text) :], sizes))

    def take(self, request: InferRequest, caller: Caller, payloads: Sequence[Payload] = ()) -> Ask:
        """Return what a request asks for; `payloads` are the data of its inputs that do not stand in its JSON."""
        request_id, echo = identify(request.id, caller)
        inputs = request.inputs
        payloads = payloads or [None] * len(inputs)
        first = inputs[0]
        rows: list[Row] | Block
        if len(inputs) == 1 and first.name not in self._known and len(first.shape) == 2:
            rows = self._matrix(first, payloads[0])
        else:
            rows = self._columns(inputs, payloads)
        notes = self._rows.inspect(rows) if isinstance(rows, list) else []
        parameters = request.parameters
        unit = (parameters or {}).get("unit")
        keyed = str(unit) if isinstance(unit, str | int) else caller.unit
        wanted = None if request.outputs is None else [output.name for output in request.outputs]
        raw = _raw_outputs(request)
        if parameters and "binary_data_output" in parameters:
            parameters = {name: value for name, value in parameters.items() if name != "binary_data_output"}
        return Ask(request_id, keyed, rows, echo, notes, wanted, parameters, raw)

    def _matrix(self, tensor: Tensor, payload: Payload) -> list[Row] | Block:
        fields = self._rows.fields
        count, width = tensor.shape
        if width != len(fields):
            what = f"{tensor.shape}; one matrix of all columns is [n, {len(fields)}]"
            raise _one("$.inputs[0].shape", what, self._fields)
        _check_count(count, "$.inputs[0].shape", self._fields)
        data = self._data(tensor, 0, payload)
        rows = self._plain(data, count, width) if isinstance(data, list) else self._cast(data.reshape(count, width))
        if rows is None:
            at = range(0, count * width, width)
            columns = list(zip(*(data[start : start + width] for start in at), strict=True))
            rows = self._fit(columns, "$.inputs[0].data")
        if self._rows.extra:
            return [(*row, *(UNSET for _ in self._rows.extra)) for row in rows]
        return rows

    def _plain(self, data: list[Any], count: int, width: int) -> list[Row] | None:
        """Return rows of floats that JSON gave and checked; None for anything else."""
        if not self._floats or not all(type(value) is float for value in data[:1]) or None in data:
            return None
        return [tuple(data[at : at + width]) for at in range(0, count * width, width)]

    def _cast(self, matrix: np.ndarray[Any, Any]) -> list[Row] | Block:
        """Return the rows of a matrix that did not come as JSON."""
        fields = self._rows.fields
        if len(matrix) > FEW:
            block = fit_matrix(matrix, fields)
            if block is not None:
                return block
        elif self._floats and matrix.dtype.kind == "f":
            few = [tuple(row) for row in matrix.tolist()]
            if all(-FLOAT_LIMIT <= value <= FLOAT_LIMIT for row in few for value in row):
                return few
        columns = [listed(matrix[:, place], field) for place, field in enumerate(fields)]
        return self._fit(columns, "$.inputs[0].data")

    def _columns(self, tensors: Sequence[Tensor], payloads: Sequence[Payload]) -> list[Row] | Block:
        named = {tensor.name: place for place, tensor in enumerate(tensors)}
        if problems := self._misnamed(named, len(tensors)):
            raise refuse_problems(problems, self._fields)
        count = tensors[0].shape[0] if tensors[0].shape else 0
        _check_count(count, "$.inputs[0].shape", self._fields)
        columns: list[Any] = []
        for field in self._fields:
            place = named.get(field.name)
            if place is None:
                columns.append([UNSET] * count)
                continue
            tensor = tensors[place]
            if tensor.shape not in ([count], [count, 1]):
                where = f"$.inputs[{place}].shape"
                what = f"{tensor.shape}; a column is [n] or [n, 1], with n = {count} as in the first"
                raise _one(where, what, [field])
            columns.append(self._data(tensor, place, payloads[place]))
        arrays = not any(isinstance(column, list) for column in columns)
        block = fit_columns(columns, self._fields) if arrays and count > FEW else None
        if block is not None:
            return block
        lists = [
            values if isinstance(values, list) else listed(values, field)
            for values, field in zip(columns, self._fields, strict=True)
        ]
        return self._fit(lists, "$.inputs")

    def _misnamed(self, named: Mapping[str, int], count: int) -> list[Problem]:
        # A row of the wanted names, with any value, goes through the words of /predict.
        row = dict.fromkeys(named)
        loose = [msgspec.structs.replace(field, nullable=True) for field in self._fields]
        required, extra = loose[: len(self._rows.fields)], loose[len(self._rows.fields) :]
        problems = list(row_problems("$.inputs", row, required, extra))[:MOST]
        if len(named) != count:
            problems.append(Problem(where="$.inputs", what="two inputs have the same name"))
        return problems

    def _data(self, tensor: Tensor, place: int, payload: Payload) -> list[Any] | np.ndarray[Any, Any]:
        """Return the elements of a tensor in row-major order, checked against its datatype and shape."""
        where = f"$.inputs[{place}]"
        kind = _kind(tensor.datatype, f"{where}.datatype", self._fields)
        if any(size < 0 for size in tensor.shape):
            raise _one(f"{where}.shape", f"{tensor.shape}; a size cannot be negative", self._fields)
        if isinstance(payload, memoryview):
            try:
                return values_of(tensor.datatype, tensor.shape, payload)
            except ValueError as error:
                raise _one(f"{where}.data", str(error), self._fields) from error
        data = self._from_json(tensor, kind, f"{where}.data") if payload is None else payload
        if len(data) != prod(tensor.shape):
            what = f"{len(data)} values; the shape {tensor.shape} holds {prod(tensor.shape)}"
            raise _one(f"{where}.data", what, self._fields)
        return data

    def _from_json(self, tensor: Tensor, kind: str, where: str) -> list[Any]:
        if not bytes(tensor.data):
            raise _one(where, f"missing; give data, or {SIZE} among the parameters and raw bytes", self._fields)
        try:
            data: list[Any] = self._flat[kind].decode(tensor.data)
        except msgspec.ValidationError as error:
            data = self._unnested(tensor, kind, where, error)
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{where} is not UTF-8.", "Send JSON encoded as UTF-8.") from error
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
        fitted = [as_kind(values, field) for values, field in zip(columns, fields, strict=True)]
        rows: list[Row] = list(zip(*fitted, strict=True))
        self._check_rows(rows, where)
        return rows

    def _check_rows(self, rows: Sequence[Row], where: str) -> None:
        fields = self._rows.fields
        problems: list[Problem] = []
        for number, row in enumerate(rows):
            named = {field.name: value for field, value in zip(self._fields, row, strict=False) if value is not UNSET}
            problems += row_problems(f"{where} row {number}", named, fields, self._rows.extra)
            if len(problems) >= MOST:
                break
        if problems:
            raise refuse_problems(problems[:MOST], fields)


def _raw_size(tensor: Tensor, place: int) -> int | None:
    """Return the bytes that a raw tensor announces; None when its data stand in the JSON."""
    parameters = tensor.parameters
    if not parameters:
        return None
    _refuse_foreign(parameters, f"$.inputs[{place}]")
    size = parameters.get(SIZE)
    if size is None:
        return None
    where = f"$.inputs[{place}].parameters.{SIZE}"
    if type(size) is not int or size < 0:
        raise _one(where, "a whole number of bytes, 0 or more, is needed", ())
    if bytes(tensor.data):
        raise _one(where, "given beside data; give the tensor once", ())
    return size


def _raw_outputs(request: InferRequest) -> frozenset[str]:
    """Return the names of the outputs that the caller wants as raw bytes."""
    default = _flag(request.parameters, "binary_data_output", "$.parameters", default=False)
    if request.outputs is None:
        return ALL if default else frozenset()
    names = []
    for place, output in enumerate(request.outputs):
        where = f"$.outputs[{place}]"
        if output.parameters:
            _refuse_foreign(output.parameters, where)
        if _flag(output.parameters, "binary_data", f"{where}.parameters", default=default):
            names.append(output.name)
    return frozenset(names)


def _flag(parameters: Mapping[str, Any] | None, name: str, where: str, *, default: bool) -> bool:
    value = (parameters or {}).get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _one(f"{where}.{name}", "true or false is needed", ())
    return value


def _refuse_foreign(parameters: Mapping[str, Any], where: str) -> None:
    for name in _FOREIGN:
        if name in parameters:
            raise InvalidInput(
                f"{where} asks for {name.replace('_', ' ')}, an extension that is not offered here.",
                "GET /v2 lists the extensions; send tensors as JSON or raw bytes.",
            )


def _kind(datatype: str, where: str, fields: Sequence[Field]) -> str:
    if datatype in _FLOATS:
        return "float"
    if datatype in ("BOOL", "BYTES"):
        return "bool" if datatype == "BOOL" else "string"
    if datatype in DATATYPES:
        return "int"
    raise _one(where, f"{datatype[:60]!r} is not known; use FP64, INT64, BOOL, BYTES or a narrower number", fields)


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
