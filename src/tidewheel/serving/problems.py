"""Say what is wrong with a body that was refused, and where: the slow path, taken for errors alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any

import msgspec

from tidewheel.errors import InvalidInput, TidewheelError, TooLarge, ValidationFailed
from tidewheel.models.signature import Field
from tidewheel.serving.ask import MAX_ROWS
from tidewheel.serving.response import Problem

MOST = 10  # problems named in one answer
WANTED: Mapping[str, str] = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "datetime": "text in ISO 8601",
}
FLOAT_LIMIT = 3.4028234e38  # what a 32-bit float holds: models are served with these
INT_LIMIT = 2**63 - 1

_BYTE = re.compile(r"\(byte (\d+)\)")


def refuse_body(body: bytes, fields: Sequence[Field], extra: Sequence[Field], error: Exception) -> TidewheelError:
    """Return the error that tells the caller why /predict cannot take a body."""
    content = parse(body)
    if isinstance(content, TidewheelError):
        return content
    found: Iterator[Problem] = iter(())
    rows: Iterable[tuple[str, object]] = [("$", content)]
    if isinstance(content, dict) and isinstance(content.get("rows"), list):
        if len(content["rows"]) > MAX_ROWS:
            return too_many_rows(len(content["rows"]))
        found = _envelope_problems(content)
        rows = ((f"$.rows[{number}]", row) for number, row in enumerate(content["rows"]))
    each = (problem for where, row in rows for problem in row_problems(where, row, fields, extra))
    problems = list(islice(_chain(found, each), MOST))
    return refuse_problems(problems or [Problem(where="$", what=str(error))], fields)


def parse(body: bytes) -> Any | TidewheelError:
    """Return any JSON value, or the error that says where it is no JSON."""
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        return InvalidInput("The body is nested too deeply.", "Send flat rows: one object per row.")
    except UnicodeDecodeError as error:
        return InvalidInput(f"The body is not UTF-8 (byte {error.start} of a text).", "Send JSON encoded as UTF-8.")
    except msgspec.DecodeError as error:
        if isinstance(error, msgspec.ValidationError):  # a number too large for any type
            return ValidationFailed(f"The body cannot be used: {error}.", "Send numbers that a 64-bit float can hold.")
        return InvalidInput(
            f"The body is not valid JSON: {_position(body, error)}.", "Correct it there and send again."
        )


def row_problems(where: str, row: object, fields: Sequence[Field], extra: Sequence[Field] = ()) -> Iterator[Problem]:
    """Yield what is wrong with one row: missing, unknown, null and mistyped fields."""
    if not isinstance(row, dict):
        yield Problem(where=where, what=f"a row is an object of {len(fields)} fields, not {_named(row)}")
        return
    known = {field.name: field for field in (*fields, *extra)}
    for field in fields:
        if field.name not in row:
            yield Problem(where=f"{where}.{field.name}", what=f"missing; {_expected(field)} is needed")
    for name, value in row.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield Problem(where=f"{where}.{name[:60]}", what=f"the model has no such field{hint}")
        elif reason := value_problem(value, known[name]):
            yield Problem(where=f"{where}.{name}", what=reason)


def value_problem(value: object, field: Field) -> str:
    """Return why a value does not fit a field, "" when it does.

    >>> value_problem("3", Field(name="a", kind="float"))
    "a number is needed, not the text '3'"
    """
    if value is None:
        return "" if field.nullable else f"null; {_expected(field)} is needed"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if field.kind == "float" and number:
        fits, limit = abs(value) <= FLOAT_LIMIT, f"between -{FLOAT_LIMIT:.8g} and {FLOAT_LIMIT:.8g}"  # type: ignore[arg-type]
        return "" if fits else f"a finite number {limit} is needed"
    if field.kind == "int" and isinstance(value, int) and number:
        return "" if -INT_LIMIT - 1 <= value <= INT_LIMIT else "a whole number of 64 bits is needed"
    fitting = {"bool": bool, "string": str, "datetime": str}.get(field.kind)
    if fitting is not None and isinstance(value, fitting):
        return ""
    return f"{_expected(field)} is needed, not {_named(value)}"


def refuse_problems(problems: Sequence[Problem], fields: Iterable[Field]) -> ValidationFailed:
    """Return one error for all problems of a request."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more, see problems)" if len(problems) > 1 else ""
    listed = ", ".join(f"{field.name} ({field.kind}{', may be null' if field.nullable else ''})" for field in fields)
    return ValidationFailed(
        f"The request does not fit the model: {first.where}: {first.what}{more}.",
        f"The fields are: {listed[:1_000]}." if listed else "Correct it there and send again.",
        findings=problems,
    )


def too_many_rows(count: int) -> TooLarge:
    """Return the error for more rows than one request may hold."""
    return TooLarge(f"The request has {count:,} rows.", f"Send at most {MAX_ROWS:,} per request.")


def _envelope_problems(content: dict[str, Any]) -> Iterator[Problem]:
    if not content["rows"]:
        yield Problem(where="$.rows", what="empty; give at least one row")
    if not isinstance(content.get("id"), str | None):
        yield Problem(where="$.id", what=f"text is needed, not {_named(content['id'])}")
    unit = content.get("unit")
    if not isinstance(unit, str | int | None) or isinstance(unit, bool):
        yield Problem(where="$.unit", what=f"text or a whole number is needed, not {_named(unit)}")
    for name in content.keys() - {"rows", "id", "unit"}:
        near = get_close_matches(name, ("rows", "id", "unit"), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; beside rows there are id and unit"
        yield Problem(where=f"$.{name[:60]}", what=f"unknown{hint}")


def _chain(*parts: Iterable[Problem]) -> Iterator[Problem]:
    for part in parts:
        yield from part


def _expected(field: Field) -> str:
    return WANTED[field.kind] + (" or null" if field.nullable else "")


def _named(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return f"the number {value}" if abs(value) < 1e60 else "a number of more than 60 digits"
    return "an array" if isinstance(value, list) else "an object"


def _position(body: bytes, error: Exception) -> str:
    """Return msgspec's words with line and column in place of the byte."""
    text = str(error)
    found = _BYTE.search(text)
    at = int(found.group(1)) if found else len(body)
    line = body.count(b"\n", 0, at) + 1
    column = at - (body.rfind(b"\n", 0, at) + 1) + 1
    words = text.split(" (byte", maxsplit=1)[0].removeprefix("JSON is malformed: ")
    return f"{words} at line {line}, column {column} (byte {at})"
