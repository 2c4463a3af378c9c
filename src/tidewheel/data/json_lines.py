"""JSON lines, or one JSON list of objects, to a frame: every column of one type."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import orjson
import polars as pl

from tidewheel.data.csv_file import decode
from tidewheel.errors import InvalidInput

_WORDS = {str: "text", int: "number", float: "number", bool: "boolean", dict: "object", list: "list"}


def parse_json_lines(data: bytes, name: str) -> pl.DataFrame:
    """Return the rows of JSON lines; a key that an object lacks is null.

    Raises InvalidInput with the line for invalid JSON, for lines that are no objects and for columns of mixed types.
    """
    text = decode(data, name)
    if not text.strip():
        raise InvalidInput(f"{name} holds nothing but blanks.", "Check what wrote it; nothing was kept.")
    try:
        frame = pl.read_ndjson(BytesIO(text.encode()), infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        _check_lines(text, name)
        raise InvalidInput(
            f"{name} cannot be read as JSON lines: {str(error).splitlines()[0]}", "Write one object on each line."
        ) from error
    # Polars turns a mixture of numbers and texts into texts without a word, so texts that read as numbers are suspect.
    texts = [series for series in frame.get_columns() if series.dtype == pl.String]
    if any(series.cast(pl.Float64, strict=False).count() for series in texts) or "true" in text or "false" in text:
        _check_lines(text, name)
    return frame


def parse_json(data: bytes, name: str) -> pl.DataFrame:
    """Return the rows of one JSON list of objects; a key that an object lacks is null.

    Raises InvalidInput for invalid JSON, for anything but a list of objects and for columns of mixed types.
    """
    text = decode(data, name)
    if not text.strip():
        raise InvalidInput(f"{name} holds nothing but blanks.", "Check what wrote it; nothing was kept.")
    try:
        records = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"{name} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}.",
            "Write one list of objects; one object on each line is a .jsonl file.",
        ) from error
    if not isinstance(records, list) or not records:
        seen = "an empty list" if records == [] else f"a {type(records).__name__}"
        raise InvalidInput(
            f"{name} holds {seen}, not a list of objects.",
            'Write it like [{"hour": 3, "cnt": 12}, {"hour": 4, "cnt": 9}].',
        )
    return parse_json_lines(b"\n".join(map(orjson.dumps, records)), name)  # "line" in an error is the record's place


def _objects(text: str, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    for line, record in enumerate(text.split("\n"), start=1):
        if not record.strip():
            continue
        try:
            value = orjson.loads(record)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(
                f"Line {line} of {name} is not valid JSON: {error.msg} at column {error.colno}.",
                "Write one complete object on each line. Nothing was kept.",
            ) from error
        if not isinstance(value, dict):
            raise InvalidInput(
                f"Line {line} of {name} holds a {type(value).__name__}, not an object.",
                'Write one object on each line, for example {"hour": 3, "cnt": 12}.',
            )
        yield line, value


def _check_lines(text: str, name: str) -> None:
    first: dict[str, tuple[int, str]] = {}
    for line, record in _objects(text, name):
        for key, value in record.items():
            word = _WORDS.get(type(value))
            if word is None:
                continue
            before = first.setdefault(key, (line, word))
            if before[1] != word:
                raise InvalidInput(
                    f"Column {key!r} of {name} mixes {before[1]} (line {before[0]}) and {word} (line {line}).",
                    "Write every value of a column in one type. Nothing was kept.",
                )
