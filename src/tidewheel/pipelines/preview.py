"""Say what a stored value holds without making it: no class is imported and nothing is unpickled."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidewheel.errors import TidewheelError
from tidewheel.pipelines.stored import Shelf, Stored, stored_from
from tidewheel.pipelines.tree import NAME as TREE

LARGEST = 20_000_000  # bytes of a blob that is read for a preview
ROWS, COLUMNS, TEXT = 5, 12, 2_000  # how much of a table and of a text is shown
_MARK = "$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a reader is shown of a value."""

    kind: str  # polars.DataFrame, tree, model ...: how it is kept
    size: int  # bytes
    text: str  # the value, or what it is, in at most 2,000 characters
    columns: tuple[str, ...] = ()  # of a table
    rows: tuple[tuple[str, ...], ...] = ()  # its first ones
    height: int | None = None  # all its rows


def preview(stored: Stored, shelf: Shelf) -> Preview:
    """Return what can be shown of a stored value; one whose bytes are gone or too large says so."""
    try:
        if stored.codec == TREE:
            return Preview(kind=stored.codec, size=stored.size, text=_shortened(shown(readable(stored, shelf))))
        if stored.size <= LARGEST and stored.inline is None and stored.codec.startswith(("polars.", "pandas.")):
            return _table(stored, shelf)
        if stored.size <= LARGEST and stored.codec.startswith("numpy."):
            return _array(stored, shelf)
    except TidewheelError as error:
        return Preview(kind=stored.codec, size=stored.size, text=error.what)
    return Preview(kind=stored.codec, size=stored.size, text=f"{stored.codec}, {size_of(stored.size)}")


def readable(stored: Stored, shelf: Shelf) -> Any:
    """Return a stored value as plain lists, dicts and scalars; a record is a dict of its fields, the rest a few words.

    Raises MissingBlob, CorruptBlob.
    """
    if stored.codec != TREE:
        return f"<{stored.codec}, {size_of(stored.size)}>"
    data = shelf.blobs.get(stored.digest) if stored.inline is None else stored.inline.encode()
    return _plain(json.loads(data), shelf)


def shown(value: Any) -> str:
    """Return plain values as text for people: a lone text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=None)


def size_of(count: int) -> str:
    """Return a number of bytes for people.

    >>> size_of(1_234_000)
    '1.2 MB'
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{count} B"


def _plain(item: Any, shelf: Shelf) -> Any:
    if type(item) is list:
        return [_plain(inner, shelf) for inner in item]
    if type(item) is not dict:
        return item
    if _MARK not in item:
        return {key: _plain(inner, shelf) for key, inner in item.items()}
    mark, value = item[_MARK], item["value"]
    if mark == "stored":
        return readable(stored_from(value), shelf)
    if mark == "record" and isinstance(value, Mapping):
        return {name: _plain(inner, shelf) for name, inner in value.items()}
    if mark == "dict":
        return {shown(_plain(key, shelf)): _plain(inner, shelf) for key, inner in value}
    if isinstance(value, list):
        return [_plain(inner, shelf) for inner in value]
    return f"{len(value)} characters of base64" if mark == "bytes" else value


def _table(stored: Stored, shelf: Shelf) -> Preview:
    import polars as pl

    try:
        frame = pl.read_parquet(io.BytesIO(shelf.blobs.get(stored.digest)), use_pyarrow=False)
    except pl.exceptions.PolarsError:
        return Preview(kind=stored.codec, size=stored.size, text=f"{stored.codec}, {size_of(stored.size)}")
    columns = frame.columns[:COLUMNS]
    more = f", {frame.width - COLUMNS} columns more" if frame.width > COLUMNS else ""
    return Preview(
        kind=stored.codec,
        size=stored.size,
        text=f"{frame.height:,} rows, {frame.width} columns{more}",
        columns=tuple(columns),
        rows=tuple(tuple(_cell(value) for value in row) for row in frame.head(ROWS).select(columns).iter_rows()),
        height=frame.height,
    )


def _array(stored: Stored, shelf: Shelf) -> Preview:
    import numpy as np

    array = np.load(io.BytesIO(shelf.blobs.get(stored.digest)), allow_pickle=False)
    values = np.array2string(array, threshold=20, edgeitems=3)
    text = f"{values}" if array.ndim == 0 else f"array {array.shape} of {array.dtype}: {values}"
    return Preview(kind=stored.codec, size=stored.size, text=_shortened(text))


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[:TEXT]}…"


def numbers_in(value: Any, prefix: Sequence[str] = ()) -> dict[str, float]:
    """Return every number in plain values by its path: {"worth.metrics.rmse": 3.1}; a lone number has the path "".

    >>> numbers_in({"worth": {"rmse": 3.1}, "n": 2})
    {'worth.rmse': 3.1, 'n': 2.0}
    """
    if isinstance(value, bool) or value is None:
        return {}
    if isinstance(value, int | float):
        return {".".join(prefix): float(value)}
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    found: dict[str, float] = {}
    for name, inner in items:
        found |= numbers_in(inner, (*prefix, str(name)))
    return found
