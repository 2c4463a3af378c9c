"""The frame format of log segments: marker, length, CRC-32, payload.

A frame is 12 bytes of head (4 bytes marker, little-endian length and CRC-32 of the payload, 4 bytes each) and the
payload. The marker begins and ends with 0xC1, a byte that neither UTF-8 nor MessagePack uses, so that reading can start
again behind a damaged frame. A frame without payload ends its segment: nothing follows it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from zlib import crc32

MARKER = b"\xc1TW\xc1"
HEAD = struct.Struct("<4sII")
MAX_PAYLOAD = 1 << 28  # bytes; a longer length can only be damage


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The full frames of a piece of a segment."""

    payloads: list[tuple[int, bytes]]  # offset of the frame in the piece, and its payload
    end: int  # offset behind the last full frame: where to read on
    damaged: int  # stretches that were stepped over
    closed: bool  # whether the frame that ends a segment was met


def frame(payload: bytes) -> bytes:
    """Return one frame around a payload."""
    return HEAD.pack(MARKER, len(payload), crc32(payload)) + payload


END = frame(b"")


def scan(data: bytes, *, whole: bool = True, limit: int | None = None) -> Scan:
    """Return the full frames at the beginning of `data`.

    An incomplete frame at the end is left for later. A damaged stretch is stepped over only when a valid frame follows
    it, because a writer may still be at work on the last one. `whole` says that `data` reaches to the end of the
    segment; without it a stretch that cannot be read ends the scan, and the caller comes back with more bytes.

    >>> [payload for _, payload in scan(frame(b"a") + frame(b"b") + b"torn").payloads]
    [b'a', b'b']
    """
    payloads: list[tuple[int, bytes]] = []
    at, damaged, closed = 0, 0, False
    while limit is None or len(payloads) < limit:
        end = _frame_end(data, at)
        if end < 0:
            following = _next_valid(data, at + 1) if whole else -1
            if following < 0:
                break
            damaged, at = damaged + 1, following
            continue
        if end == at + HEAD.size:
            closed = True
        else:
            payloads.append((at, data[at + HEAD.size : end]))
        at = end
    return Scan(payloads=payloads, end=at, damaged=damaged, closed=closed)


def _frame_end(data: bytes, at: int) -> int:
    """Return the offset behind the valid frame at `at`, or -1."""
    if len(data) - at < HEAD.size:
        return -1
    marker, length, checksum = HEAD.unpack_from(data, at)
    end: int = at + HEAD.size + length
    if marker != MARKER or length > MAX_PAYLOAD or end > len(data):
        return -1
    return end if crc32(memoryview(data)[at + HEAD.size : end]) == checksum else -1


def _next_valid(data: bytes, start: int) -> int:
    """Return the offset of the first valid frame at or behind `start`, or -1."""
    at = data.find(MARKER, start)
    while at >= 0 and _frame_end(data, at) < 0:
        at = data.find(MARKER, at + 1)
    return at
