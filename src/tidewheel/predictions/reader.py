"""Read segments from a cursor on, also while another process writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from tidewheel.predictions.compacted import Kind, from_file, pick
from tidewheel.predictions.frames import Scan, scan
from tidewheel.predictions.records import Outcome, Prediction, Shadowed
from tidewheel.predictions.segments import KINDS, Compacted, list_compacted, list_segments

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
        self._type: Kind = kind
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
        segments = list_segments(self.folder, self._kind)
        compacted = list_compacted(self.folder, self._kind)
        for segment in segments:
            name = segment.file_name
            start = (cursor or {}).get(name, 0)
            stop = None if until is None else until.get(name, 0)
            rest = None if limit is None else limit - len(frames)
            found = _read_segment(self.folder / name, start, stop, rest)
            if found is None:  # looked for again: it may have been compacted since the list was made
                whole = compacted.get(name) or list_compacted(self.folder, self._kind).get(name)
                found = self._compacted(whole, start, stop, rest)
            frames += [Frame(name, offset, payload) for offset, payload in found.payloads]
            damaged += found.damaged
            if found.end:
                reached[name] = found.end
        return FrameBatch(frames=frames, cursor=reached, damaged=damaged)

    def at(self, segment: str, offset: int) -> Record | None:
        """Return the record of the frame at an offset; None when it can no longer be read."""
        return self.pick(segment, [offset]).get(offset)

    def pick(self, segment: str, offsets: Sequence[int]) -> dict[int, Record]:
        """Return the records of one segment at some offsets; those that can no longer be read are missing."""
        try:
            with (self.folder / segment).open("rb") as file:
                payloads = [(at, payload) for at in sorted(offsets) if (payload := _payload_at(file, at)) is not None]
        except FileNotFoundError:
            payloads = self._pick_compacted(segment, offsets)
        found: dict[int, Record] = {}
        for at, payload in payloads:
            with suppress(msgspec.DecodeError):
                found[at] = self._decoder.decode(payload)
        return found

    def end(self) -> Cursor:
        """Return a cursor at the present end: what stands before it is never read.

        It may lie within a record that is being written; reading on steps over the rest of that one.
        """
        ends: Cursor = {}
        for segment in list_segments(self.folder, self._kind):
            with suppress(FileNotFoundError):  # it is compacted
                ends[segment.file_name] = (self.folder / segment.file_name).stat().st_size
        for name, whole in list_compacted(self.folder, self._kind).items():
            ends.setdefault(name, whole.end)
        return {name: size for name, size in ends.items() if size}

    def _compacted(self, whole: Compacted | None, start: int, stop: int | None, limit: int | None) -> Scan:
        """Return the frames of a segment that was compacted, as they were; none of one that was deleted."""
        if whole is None:
            return Scan(payloads=[], end=0, damaged=0, closed=False)
        end = whole.end if stop is None else min(stop, whole.end)
        if start >= end or limit == 0:
            return Scan(payloads=[], end=start, damaged=0, closed=True)
        payloads: list[tuple[int, bytes]] = []
        for file in whole.files:
            with suppress(FileNotFoundError):  # deleted by age a moment ago
                payloads += from_file(file, self._type, start, end)
        payloads.sort()
        if limit is not None and len(payloads) > limit:
            return Scan(payloads=payloads[:limit], end=payloads[limit][0], damaged=0, closed=True)
        return Scan(payloads=payloads, end=end, damaged=0, closed=True)

    def _pick_compacted(self, name: str, offsets: Sequence[int]) -> list[tuple[int, bytes]]:
        whole = list_compacted(self.folder, self._kind).get(name)
        if whole is None:
            return []
        found: list[tuple[int, bytes]] = []
        for file in whole.files:
            with suppress(FileNotFoundError):
                found += pick(file, self._type, offsets)
        return found


def _payload_at(file: BinaryIO, offset: int) -> bytes | None:
    """Return the payload of the valid frame at an offset."""
    file.seek(offset)
    found = scan(file.read(1 << 12), limit=1, whole=False)
    if not found.payloads:
        file.seek(offset)
        found = scan(file.read(), limit=1)
    return found.payloads[0][1] if found.payloads and found.payloads[0][0] == 0 else None


def _read_segment(path: Path, start: int, stop: int | None, limit: int | None) -> Scan | None:
    """Return the frames of one file between two offsets, counted from its beginning; None when it is not there."""
    try:
        size = path.stat().st_size
        # A machine that lost power can leave a file shorter than what was read of it.
        at, end = min(start, size), size if stop is None else min(size, stop)
        if at >= end:
            return Scan(payloads=[], end=at, damaged=0, closed=False)
        with path.open("rb") as file:
            return _scan_file(file, at, end, limit)
    except FileNotFoundError:
        return None


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
