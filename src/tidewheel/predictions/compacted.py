"""Records as columns: how a closed segment stands in Parquet, and how its records come back as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from tidewheel.predictions.records import Outcome, Prediction, Shadowed

if TYPE_CHECKING:
    import polars as pl

Kind = type[Prediction | Outcome | Shadowed]
Payload = tuple[int, bytes]  # offset in the segment, record in MessagePack

OFFSET, RAW = "offset", "raw"
_PLAIN = {str: "String", int: "Int64", float: "Float64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How the fields of a kind of record are stored."""

    names: tuple[str, ...]  # fields, in order
    plain: dict[str, str]  # fields that are columns of their own, with their polars types
    nested: dict[str, msgspec.json.Decoder[Any]]  # fields that are stored as JSON


def columns_of(kind: Kind) -> Columns:
    """Return how a kind of record is stored: texts and numbers as such, everything else as JSON."""
    hints = get_type_hints(kind)
    names = tuple(kind.__struct_fields__)
    plain = {name: _PLAIN[hints[name]] for name in names if hints[name] in _PLAIN}
    nested = {name: msgspec.json.Decoder(hints[name]) for name in names if name not in plain}
    return Columns(names=names, plain=plain, nested=nested)


def to_frames(kind: Kind, payloads: Sequence[Payload]) -> dict[str, pl.DataFrame]:
    """Return records as one table for each day (UTC), in order of their offsets.

    A record that the columns cannot hold exactly is kept as it is, besides, in `raw`.
    """
    import polars as pl

    shape = columns_of(kind)
    decoder = msgspec.msgpack.Decoder(kind)
    parts = msgspec.msgpack.Decoder(list[msgspec.Raw])
    days: dict[str, list[dict[str, Any]]] = {}
    day = "1970-01-01"
    for offset, payload in payloads:
        row: dict[str, Any] = {OFFSET: offset, RAW: payload}
        try:
            record: Any = decoder.decode(payload)
        except msgspec.DecodeError:
            pass  # nobody can read it; it stays as it is, among its neighbours
        else:
            day = datetime.fromtimestamp(record.at // 1_000_000, UTC).date().isoformat()
            row |= _row(record, shape)
            exact = len(parts.decode(payload)) <= len(shape.names) and _same(row, record, kind, shape)
            row[RAW] = None if exact else payload
        days.setdefault(day, []).append(row)
    schema: dict[str, Any] = {OFFSET: pl.Int64}
    schema |= {name: getattr(pl, shape.plain.get(name, "String")) for name in shape.names}
    schema[RAW] = pl.Binary
    return {each: pl.DataFrame(rows, schema=schema, orient="row") for each, rows in days.items()}


def from_file(path: Path, kind: Kind, start: int = 0, stop: int | None = None) -> list[Payload]:
    """Return the records of one compacted file whose offsets are from `start` to before `stop`."""
    import polars as pl

    wanted = pl.col(OFFSET) >= start
    if stop is not None:
        wanted &= pl.col(OFFSET) < stop
    return _payloads(pl.read_parquet(path).filter(wanted), kind)


def pick(path: Path, kind: Kind, offsets: Sequence[int]) -> list[Payload]:
    """Return the records of one compacted file at some offsets, those that it holds."""
    import polars as pl

    return _payloads(pl.read_parquet(path).filter(pl.col(OFFSET).is_in(list(offsets))), kind)


def _payloads(frame: pl.DataFrame, kind: Kind) -> list[Payload]:
    shape = columns_of(kind)
    encode = msgspec.msgpack.Encoder().encode
    found: list[Payload] = []
    for row in frame.iter_rows(named=True):
        raw = row[RAW]
        found.append((row[OFFSET], raw if raw is not None else encode(_record(row, kind, shape))))
    return found


def _row(record: Any, shape: Columns) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in shape.plain}
    return row | {name: msgspec.json.encode(getattr(record, name)).decode() for name in shape.nested}


def _record(row: dict[str, Any], kind: Kind, shape: Columns) -> Any:
    values = {name: row[name] for name in shape.plain}
    return kind(**values, **{name: decoder.decode(row[name]) for name, decoder in shape.nested.items()})


def _same(row: dict[str, Any], record: Any, kind: Kind, shape: Columns) -> bool:
    try:
        return bool(_record(row, kind, shape) == record)  # NaN, which JSON does not know, is not
    except msgspec.DecodeError:
        return False
