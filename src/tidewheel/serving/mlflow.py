"""`/invocations` as MLflow's scoring server has it, so that its callers need not change.

Bodies: {"dataframe_split": {"columns", "data"}}, {"dataframe_records": [{...}]}, {"instances": [...]} or
{"inputs": {...}}, with "params" beside it, or text/csv with a header line. Columns that the model does not read are
left out, as MLflow does; numbers come as the kinds of their fields where nothing is lost. The answer is
{"predictions": [...]}.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tidewheel.errors import InvalidInput, TidewheelError, ValidationFailed
from tidewheel.models.signature import Field
from tidewheel.predictions.records import ANSWERED
from tidewheel.serving.arms import Arm, Deployed
from tidewheel.serving.ask import MAX_ROWS, Ask, Caller, Row, identify
from tidewheel.serving.fitting import as_kind
from tidewheel.serving.languages import Language, Served
from tidewheel.serving.problems import MOST, parse, refuse_problems, row_problems, too_many_rows
from tidewheel.serving.response import JSON, Header, Problem, Response

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
TRUTH: Mapping[str, bool] = {"true": True, "false": False, "1": True, "0": False}

_encode = msgspec.json.Encoder().encode

Table = tuple[Mapping[str, Sequence[Any]], int]  # columns by name, rows


class _Invocations:
    """`POST /invocations[/{model}]`: tables in, predictions out."""

    def decode(self, deployed: Deployed, arm: Arm, headers: Sequence[Header], body: bytes, caller: Caller) -> Ask:
        """Return the request of a body."""
        del arm
        codec = deployed.rows
        fields = (*codec.fields, *codec.extra)
        kind = next((value for name, value in headers if name == b"content-type"), b"application/json")
        if kind.partition(b";")[0].strip().lower() == b"text/csv":
            columns, count = _csv(body, fields)
        else:
            columns, count = _json(body, [field.name for field in codec.fields])
        if count > MAX_ROWS:
            raise too_many_rows(count)
        if not count:
            raise _one("$", "no rows; give at least one", fields)
        rows = _fit(columns, count, codec.fields, codec.extra)
        request_id, echo = identify(None, caller)
        return Ask(request_id, caller.unit, rows, echo, codec.inspect(rows))

    def encode(self, model: str, ask: Ask, served: Served) -> Response:
        """Return the answer; its version stands in a header, because MLflow's body has no place for it."""
        del model
        headers = (JSON, (b"x-request-id", ask.echo), (b"x-model-version", b"%d" % served.arm.version))
        return Response(ANSWERED, headers, _encode({"predictions": served.answer.output}))


INVOCATIONS: Language = _Invocations()


def choose(served: Sequence[str]) -> InvalidInput:
    """Return why a path without a model's name cannot be answered."""
    listed = ", ".join(sorted(served)) or "none yet"
    return InvalidInput(
        f"Which model is meant is not said; this server has several or none: {listed}.", "Ask /invocations/{model}."
    )


def _json(body: bytes, names: Sequence[str]) -> Table:
    """Return the table of a JSON body."""
    content = parse(body)
    if isinstance(content, TidewheelError):
        raise content
    given = [name for name in FORMATS if isinstance(content, dict) and name in content]
    if len(given) != 1:
        raise InvalidInput(
            f"The body has {' and '.join(given) if given else 'none'} of {', '.join(FORMATS)}.",
            "Give exactly one of them, or send text/csv.",
        )
    (form,) = given
    other = content.keys() - {form, "params", "signature_name"}
    if other:
        raise _one(f"$.{min(other)[:60]}", "unknown; beside the data there is params")
    if not isinstance(content.get("params"), dict | None):
        raise _one("$.params", "an object is needed")
    where, data = f"$.{form}", content[form]
    if form == "dataframe_split":
        return _split(data, where)
    return _columns(data, where) if isinstance(data, dict) else _listed(data, where, names)


def _split(data: object, where: str) -> Table:
    if (
        not isinstance(data, dict)
        or not isinstance(data.get("columns"), list)
        or not isinstance(data.get("data"), list)
    ):
        raise _one(where, 'an object {"columns": [...], "data": [[...], ...]} is needed')
    return _named(data["columns"], data["data"], where)


def _named(columns: Sequence[object], data: Sequence[Any], where: str) -> Table:
    """Return rows of values below column names."""
    if len(data) > MAX_ROWS:
        raise too_many_rows(len(data))
    if len(set(map(str, columns))) != len(columns):
        raise _one(f"{where}.columns", "two columns have the same name")
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise _one(f"{where}.data[{number}]", f"an array of {len(columns)} values is needed, one per column")
    turned = zip(*data, strict=True) if data else ([] for _ in columns)
    return dict(zip(map(str, columns), turned, strict=True)), len(data)


def _columns(data: Mapping[str, Any], where: str) -> Table:
    """Return columns that came by name, each an array, of one length, or of arrays of one value."""
    sizes = {name: len(values) if isinstance(values, list) else -1 for name, values in data.items()}
    if -1 in sizes.values() or len(set(sizes.values())) > 1:
        raise _one(where, "an array per column is needed, all of one length")
    flat = {name: [_unwrapped(value) for value in values] for name, values in data.items()}
    return flat, next(iter(sizes.values()), 0)


def _listed(data: object, where: str, names: Sequence[str]) -> Table:
    """Return records, rows of values in the order of the fields, or the values of a model with one field."""
    if not isinstance(data, list):
        raise _one(where, "an array of rows is needed")
    if len(data) > MAX_ROWS:
        raise too_many_rows(len(data))
    if data and all(isinstance(row, dict) for row in data):
        first = data[0].keys()
        odd = next((number for number, row in enumerate(data) if row.keys() != first), None)
        if odd is not None:
            raise _one(f"{where}[{odd}]", "other fields than in the first record")
        return {name: [_unwrapped(row[name]) for row in data] for name in first}, len(data)
    if len(names) == 1 and not any(isinstance(row, list | dict) for row in data):
        return {names[0]: data}, len(data)
    return _named(names, data, where)


def _unwrapped(value: Any) -> Any:
    """Return the value of a tensor [1]; clients send a column [n, 1] so."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _csv(body: bytes, fields: Sequence[Field]) -> Table:
    """Return the table of CSV with a header line; an empty cell is a missing value."""
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The body is not UTF-8 (byte {error.start}).", "Send CSV encoded as UTF-8.") from error
    except csv.Error as error:
        raise InvalidInput(f"The body is not CSV: {error}.", "Send a header line and one line per row.") from error
    lines = [line for line in lines if line]
    if not lines:
        raise InvalidInput("The body is empty.", "Send a header line and one line per row.")
    columns, count = _named(lines[0], lines[1:], "$")
    kinds = {field.name: field for field in fields}
    return {name: [_cell(v, kinds[name]) for v in values] for name, values in columns.items() if name in kinds}, count


def _cell(text: str, field: Field) -> Any:
    """Return a cell as a value of its field; what is none stays text, and is refused as such."""
    if text == "":
        return None
    if field.kind in ("string", "datetime"):
        return text
    if field.kind == "bool":
        return TRUTH.get(text.lower(), text)
    try:
        return int(text) if field.kind == "int" and len(text) < 20 else float(text)
    except ValueError:
        return text


def _fit(
    columns: Mapping[str, Sequence[Any]], count: int, fields: Sequence[Field], extra: Sequence[Field]
) -> list[Row]:
    """Return the rows that the model reads, in the kinds of its fields. Raises ValidationFailed with what is wrong."""
    every = (*fields, *extra)
    missing = [field for field in fields if field.name not in columns]
    if missing:
        known = {field.name for field in every}
        given = {name: None for name in columns if name in known}
        loose = [msgspec.structs.replace(field, nullable=True) for field in every]
        problems = list(row_problems("$", given, loose[: len(fields)], loose[len(fields) :]))
        raise refuse_problems(problems[:MOST], every)
    unset: list[Any] = [msgspec.UNSET] * count
    values = [as_kind(columns[field.name], field) if field.name in columns else unset for field in every]
    rows: list[Row] = list(zip(*values, strict=True))
    found: list[Problem] = []
    for number, row in enumerate(rows):
        named = {field.name: value for field, value in zip(every, row, strict=True) if value is not msgspec.UNSET}
        found += row_problems(f"$ row {number}", named, fields, extra)
        if len(found) >= MOST:
            break
    if found:
        raise refuse_problems(found[:MOST], every)
    return rows


def _one(where: str, what: str, fields: Sequence[Field] = ()) -> ValidationFailed:
    return refuse_problems([Problem(where=where, what=what)], fields)
