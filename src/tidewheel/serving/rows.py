"""JSON rows of one signature: decoded and checked in one pass by a type made for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tidewheel.errors import ValidationFailed
from tidewheel.models.signature import Field
from tidewheel.serving.ask import MAX_ROWS, Ask, Caller, Row, identify
from tidewheel.serving.problems import FLOAT_LIMIT, INT_LIMIT, parse, refuse_body
from tidewheel.serving.response import Problem

NOTES = 10  # odd values that one answer names
FAR = 100  # how many times the width of training's values a number must be off to count as absurd

TYPES: dict[str, Any] = {
    "float": Annotated[float, Meta(ge=-FLOAT_LIMIT, le=FLOAT_LIMIT)],
    "int": Annotated[int, Meta(ge=-INT_LIMIT - 1, le=INT_LIMIT)],
    "bool": bool,
    "string": str,
    "datetime": str,
}

astuple = msgspec.structs.astuple

_Decoded = tuple[list[Row], str | None, str | int | None]  # rows, id, unit


class RowCodec:
    """Decodes requests for one signature.

    `fields` are required; `extra` may be left out (columns that only a challenger reads) and come as UNSET.

    >>> codec = RowCodec([Field(name="a", kind="float")])
    >>> codec.decode(b'{"rows": [{"a": 1}]}', Caller("r1", "", b"")).rows
    [(1.0,)]
    """

    def __init__(self, fields: Sequence[Field], extra: Sequence[Field] = ()) -> None:
        self.fields = tuple(fields)
        self.extra = tuple(extra)
        row = _row_type(self.fields, self.extra)
        rows = Annotated[list[row], Meta(min_length=1, max_length=MAX_ROWS)]  # type: ignore[valid-type]
        many = msgspec.defstruct(
            "Rows",
            [("rows", rows), ("id", str | None, None), ("unit", str | int | None, None)],
            forbid_unknown_fields=True,
            gc=False,
        )
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(many)
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._types: tuple[Any, Any] = (many, row)
        every = (*self.fields, *self.extra)
        self._ints = [field.name for field in every if field.kind == "int"]
        self._levels = [
            (place, field.name, frozenset(field.categories))
            for place, field in enumerate(every)
            if field.kind == "string" and field.categories is not None
        ]
        self._times = [(place, field.name) for place, field in enumerate(every) if field.kind == "datetime"]
        self._plain = not self._levels and not self._times

    def decode(self, body: bytes, caller: Caller) -> Ask:
        """Return the request of a JSON body: {"rows": [{...}], "id"?, "unit"?}, or one bare row {...}.

        Raises InvalidInput for what is no JSON, with its position, TooLarge for too many rows, ValidationFailed for
        rows that do not fit the signature, with every place that is wrong (up to ten).
        """
        likely, other = (self._some, self._bare) if b'"rows"' in body else (self._bare, self._some)
        try:
            try:
                rows, given, unit = likely(body)
            except msgspec.ValidationError as error:
                rows, given, unit = self._second(other, body, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            again = self._with_whole_numbers(body) if isinstance(error, msgspec.ValidationError) else None
            if again is None:
                raise refuse_body(body, self.fields, self.extra, error) from error
            rows, given, unit = again
        request_id, echo = identify(given, caller)
        notes = [] if self._plain else self.inspect(rows)
        return Ask(request_id, caller.unit if unit is None else str(unit), rows, echo, notes)

    def _some(self, body: bytes) -> _Decoded:
        decoded = self._many.decode(body)
        return [astuple(row) for row in decoded.rows], decoded.id, decoded.unit

    def _bare(self, body: bytes) -> _Decoded:
        return [astuple(self._one.decode(body))], None, None

    @staticmethod
    def _second(decode: Callable[[bytes], _Decoded], body: bytes, first: msgspec.ValidationError) -> _Decoded:
        """Decode the rarer shape: a row may have a field, or a text, that is called rows."""
        try:
            return decode(body)
        except msgspec.ValidationError:
            raise first from None

    def _with_whole_numbers(self, body: bytes) -> _Decoded | None:
        """Decode a body whose whole numbers are written as 3.0, which is the same number in JSON; None for others."""
        content = parse(body) if self._ints else None
        if not isinstance(content, dict):
            return None
        many = content.get("rows")
        for row in many if isinstance(many, list) else [content]:
            for name in self._ints if isinstance(row, dict) else ():
                value = row.get(name)
                if type(value) is float and value.is_integer():
                    row[name] = int(value)
        for kind in self._types:
            with suppress(msgspec.ValidationError):
                decoded: Any = msgspec.convert(content, kind)
                if kind is self._types[1]:
                    return [astuple(decoded)], None, None
                return [astuple(row) for row in decoded.rows], decoded.id, decoded.unit
        return None

    def inspect(self, rows: Sequence[Row]) -> list[str]:
        """Return notes on unseen categories; raise ValidationFailed for text that is no datetime."""
        for place, name in self._times:
            for number, row in enumerate(rows):
                _check_time(row[place], f"$.rows[{number}].{name}")
        notes: list[str] = []
        for place, name, levels in self._levels:
            for number, row in enumerate(rows):
                value = row[place]
                if value is not None and value is not UNSET and value not in levels and len(notes) < NOTES:
                    notes.append(f"$.rows[{number}].{name}: {str(value)[:60]!r} was not seen in training")
        return notes

    def oddities(self, rows: Sequence[Row]) -> list[str]:
        """Return what could make a sound model fail: unseen categories, and numbers absurdly far from training's."""
        found = self.inspect(rows)
        for place, field in enumerate((*self.fields, *self.extra)):
            if field.low is None or field.high is None:
                continue
            reach = FAR * (field.high - field.low + max(abs(field.low), abs(field.high), 1.0))
            for number, row in enumerate(rows):
                value = row[place]
                if isinstance(value, int | float) and not field.low - reach <= value <= field.high + reach:
                    seen = f"{field.low:.6g} to {field.high:.6g}"
                    found.append(f"$.rows[{number}].{field.name}: {value:.6g} is far from what training saw ({seen})")
        return found[:NOTES]


def _row_type(fields: Sequence[Field], extra: Sequence[Field]) -> type[msgspec.Struct]:
    """Make the type of one row; its attributes are numbered, because column names need not be identifiers."""
    required = [(f"f{place}", _value_type(field)) for place, field in enumerate(fields)]
    optional = [
        (f"f{place}", _value_type(field) | UnsetType, UNSET) for place, field in enumerate(extra, start=len(fields))
    ]
    names = {f"f{place}": field.name for place, field in enumerate((*fields, *extra))}
    return msgspec.defstruct("Row", [*required, *optional], rename=names, forbid_unknown_fields=True, gc=False)


def _value_type(field: Field) -> Any:
    kind = TYPES[field.kind]
    return kind | None if field.nullable else kind


def _check_time(value: object, where: str) -> None:
    if not isinstance(value, str):
        return
    try:
        datetime.fromisoformat(value)
    except ValueError as error:
        raise ValidationFailed(
            f"{where} = {value[:60]!r} is not a datetime.",
            'Give ISO 8601 text, such as "2026-03-01T12:00:00".',
            findings=[Problem(where=where, what="not an ISO 8601 datetime")],
        ) from error
