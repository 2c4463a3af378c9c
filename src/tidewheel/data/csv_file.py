"""CSV bytes to a frame, strictly: ragged lines, other encodings and columns of mixed types are errors."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from io import StringIO

import polars as pl

from tidewheel.data.frames import check_names
from tidewheel.errors import InvalidInput

SEPARATORS = (",", ";", "\t", "|")
NULL_WORDS = ("NA", "N/A", "n/a", "NULL", "null", "None", "?")
_BOMS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def parse_csv(
    data: bytes, name: str, *, texts: Collection[str] = (), separator: str | None = None, mixed: bool = False
) -> pl.DataFrame:
    """Return the rows of CSV bytes with a header line; types are inferred from all rows.

    The separator is taken from the header line unless given. Columns in `texts` stay text. With `mixed` a column
    of numbers with some texts in it stays text, otherwise that is an error; NA, NULL and the like are null among
    numbers. Raises InvalidInput with line or byte for whatever cannot be read.
    """
    text = decode(data, name)
    separator = separator or _separator(text)
    header = next(_records(text, separator, name), (1, []))[1]
    check_names(header, f"the header of {name}")
    try:
        frame = pl.read_csv(
            data.removeprefix(b"\xef\xbb\xbf"),
            separator=separator,
            infer_schema_length=None,
            try_parse_dates=True,
            schema_overrides={column: pl.String for column in header if column in texts},
        )
    except pl.exceptions.NoDataError as error:
        raise InvalidInput(f"{name} holds nothing but blanks.", "Check what wrote it; nothing was kept.") from error
    except pl.exceptions.PolarsError as error:
        _check_ragged(text, separator, name)
        raise InvalidInput(
            f"{name} cannot be read as CSV: {str(error).splitlines()[0]}",
            "Quote fields that hold the separator, quotes or line breaks.",
        ) from error
    # A line with too few fields is read as nulls at its end, so only nulls in the last column call for a second look.
    if frame.width and frame.to_series(frame.width - 1).null_count():
        _check_ragged(text, separator, name)
    return frame.with_columns([_settled(frame[column], name, mixed=mixed) for column in _texts_left(frame, texts)])


def decode(data: bytes, name: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark; InvalidInput says where it is not UTF-8 and guesses."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            raise _encoding_error(name, data, 0, encoding)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _encoding_error(name, data, error.start, _guess(data)) from error
    if "\0" in text[:100_000]:
        raise InvalidInput(
            f"{name} holds zero bytes, so it is no text file.", "Check its suffix; export it as UTF-8 text."
        )
    return text


def _guess(data: bytes) -> str:
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "ISO-8859-1"
    return "WINDOWS-1252"


def _encoding_error(name: str, data: bytes, offset: int, guess: str) -> InvalidInput:
    line = data.count(b"\n", 0, offset) + 1
    return InvalidInput(
        f"{name} is not UTF-8: byte {offset} (0x{data[offset]:02x}, line {line}) does not belong there.",
        f"It looks like {guess}; convert it with: iconv -f {guess} -t UTF-8 {name} > utf8-{name}",
    )


def _separator(text: str) -> str:
    header = text.split("\n", 1)[0]
    return max(SEPARATORS, key=header.count)


def _records(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the number of the line it begins on; blank lines are passed over."""
    reader = csv.reader(StringIO(text), delimiter=separator)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(
            f"Line {line} of {name} cannot be read as CSV: {error}.",
            "Look for a quote that is opened and never closed.",
        ) from error


def _check_ragged(text: str, separator: str, name: str) -> None:
    width = 0
    for line, record in _records(text, separator, name):
        width = width or len(record)
        if len(record) != width:
            raise InvalidInput(
                f"Line {line} of {name} has {len(record)} fields; the header has {width}.",
                f"Mend that line; fields that hold {separator!r} must stand in quotes. Nothing was kept.",
            )


def _texts_left(frame: pl.DataFrame, texts: Collection[str]) -> list[str]:
    return [name for name, dtype in frame.schema.items() if dtype == pl.String and name not in texts]


def _settled(series: pl.Series, name: str, *, mixed: bool) -> pl.Series:
    """Return a text column, or its numbers where all but words for "no value" are numbers."""
    numbers = series.cast(pl.Float64, strict=False)
    strays = series.filter(numbers.is_null() & series.is_not_null())
    present = len(series) - series.null_count()
    if strays.is_in(NULL_WORDS).all() and len(strays) < present:
        cleared = series.set(series.is_in(NULL_WORDS), None)
        whole = cleared.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == cleared.null_count() else numbers
    few = len(strays) <= max(1, present // 10) and len(strays) < present - len(strays)
    if few and not mixed:
        row = int((numbers.is_null() & series.is_not_null()).arg_max() or 0)
        raise InvalidInput(
            f"Column {series.name!r} of {name} mixes numbers and text: {len(strays)} of {present} values are "
            f"no numbers, the first is {strays[0]!r} in row {row + 1}.",
            "Mend or empty those cells; if the column is meant as text, read the file yourself and pass the frame.",
        )
    return series
