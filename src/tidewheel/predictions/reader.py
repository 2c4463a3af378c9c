"""Read segments from a cursor on, also while another process writes them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from tidewheel.predictions.frames import Scan, scan
from tidewheel.predictions.records import Outcome, Prediction, Shadowed
from tidewheel.predictions.segments import KINDS, list_segments

Cursor = dict[str, int]  # file name of a segment -> bytes of it that were read; can be kept as JSON

CHUNK_BYTES = 4 << 20

Record = TypeVar("Record", Prediction, Outcome, Shadowed)


@dataclass(frozen=True, slots=True)
class Frame:
    """One full frame and where it stands. Positional, because there are many."""

    segment: str  # file name
    offset: int  # bytes from the beginning of the file
    payload: bytes  # one record in MessagePack


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBatch:
    """Frames behind a cursor."""

    frames: list[Frame]  # in the order of the log
    cursor: Cursor  # where to read on
    damaged: int  # stretches that could not be read and were stepped over


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBatch(Generic[Record]):
    """Records behind a cursor."""

    records: list[Record]  # in the order of the log
    cursor: Cursor  # where to read on
    damaged: int  # stretches and records that could not be read and were stepped over


class LogReader(Generic[Record]):
    """Reads the records of one kind in one folder; keeps no state but the folder.

    >>> LogReader(Path("no/such/folder"), Prediction).read().records
    []
    """

    def __init__(self, folder: Path, kind: type[Record]) -> None:
        self.folder = folder
        self._kind = KINDS[kind]
        self._decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(kind)

    def read(self, cursor: Cursor | None = None, *, limit: int | None = None) -> LogBatch[Record]:
        """Return the full records behind a cursor, at most `limit`.

        The cursor that comes back names where to go on; it never passes an incomplete record at the end. A damaged
        stretch is stepped over as soon as a valid record follows it, and counted once.
        """
        batch = self.frames(cursor, limit=limit)
        records, damaged = [], batch.damaged
        for found in batch.frames:
            try:
                records.append(self._decoder.decode(found.payload))
            except msgspec.DecodeError:
                damaged += 1
        return LogBatch(records=records, cursor=batch.cursor, damaged=damaged)

    def frames(
        self, cursor: Cursor | None = None, *, limit: int | None = None, until: Mapping[str, int] | None = None
    ) -> FrameBatch:
        """Return frames as they are stored; `until` is a cursor that bounds them from above."""
        frames: list[Frame] = []
        reached: Cursor = {}
        damaged = 0
        for segment in list_segments(self.folder, self._kind):
            name = segment.file_name
            start = (cursor or {}).get(name, 0)
            stop = None if until is None else until.get(name, 0)
            rest = None if limit is None else limit - len(frames)
            found = _read_segment(self.folder / name, start, stop, rest)
            frames += [Frame(name, offset, payload) for offset, payload in found.payloads]
            damaged += found.damaged
            if found.end:
                reached[name] = found.end
        return FrameBatch(frames=frames, cursor=reached, damaged=damaged)

    def at(self, segment: str, offset: int) -> Record | None:
        """Return the record of the frame at an offset; None when it can no longer be read."""
        try:
            with (self.folder / segment).open("rb") as file:
                file.seek(offset)
                found = scan(file.read(1 << 12), limit=1, whole=False)
                if not found.payloads:
                    file.seek(offset)
                    found = scan(file.read(), limit=1)
        except FileNotFoundError:
            return None
        if not found.payloads or found.payloads[0][0] != 0:
            return None
        with suppress(msgspec.DecodeError):
            return self._decoder.decode(found.payloads[0][1])
        return None


def _read_segment(path: Path, start: int, stop: int | None, limit: int | None) -> Scan:
    """Return the frames of one file between two offsets, their offsets counted from the beginning of the file."""
    try:
        size = path.stat().st_size
        # A machine that lost power can leave a file shorter than what was read of it.
        at, end = min(start, size), size if stop is None else min(size, stop)
        if at >= end:
            return Scan(payloads=[], end=at, damaged=0, closed=False)
        with path.open("rb") as file:
            return _scan_file(file, at, end, limit)
    except FileNotFoundError:
        return Scan(payloads=[], end=0, damaged=0, closed=False)


def _scan_file(file: BinaryIO, at: int, end: int, limit: int | None) -> Scan:
    payloads: list[tuple[int, bytes]] = []
    damaged, closed, chunk = 0, False, CHUNK_BYTES
    while at < end and not closed and (limit is None or len(payloads) < limit):
        file.seek(at)
        data = file.read(min(chunk, end - at))
        whole = len(data) >= end - at
        found = scan(data, whole=whole, limit=None if limit is None else limit - len(payloads))
        payloads += [(at + offset, payload) for offset, payload in found.payloads]
        damaged, closed = damaged + found.damaged, found.closed
        if found.end == 0 and whole:
            break
        chunk = CHUNK_BYTES if found.end else chunk * 2  # a frame larger than the chunk
        at += found.end
    return Scan(payloads=payloads, end=at, damaged=damaged, closed=closed)
