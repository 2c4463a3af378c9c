"""Rewrite closed segments as Parquet, and delete what is too old.

A segment is compacted when it is ended and nobody writes it. Its files are written beside their places, forced onto
the disk and renamed; only then is the segment deleted. Whoever is killed in between leaves both, and readers take the
segment until the next compaction has written the same files again: nothing is lost, nothing read twice. Cursors go on
naming segments and offsets, and mean the same records before and after.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from tidewheel.errors import StorageUnavailable
from tidewheel.predictions.compacted import Kind, to_frames
from tidewheel.predictions.frames import END, scan
from tidewheel.predictions.segments import COMPACTED, KINDS, compacted_file, list_compacted, list_segments

ABANDONED = timedelta(hours=1)  # a segment that nobody holds and nobody has touched for so long is ended by us


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """What a compaction did."""

    segments: int = 0  # rewritten
    records: int = 0  # in them
    damaged: int = 0  # stretches that could not be read, and are gone
    size_before: int = 0  # bytes
    size_after: int = 0  # bytes
    deleted: int = 0  # files of days that were too old


def compact(folder: Path, *, now: datetime, days: float = 0.0) -> Compaction:
    """Compact the closed segments of one model's log, and delete the days that are older than `days` (0: none).

    Of two processes that compact at once, the second does nothing. Raises StorageUnavailable for a full disk; the log
    is then as it was.
    """
    try:
        with _alone(folder) as mine:
            return _compact_all(folder, now, days) if mine else Compaction()
    except OSError as error:
        raise StorageUnavailable(
            f"The log in {folder} cannot be compacted: {error.strerror or error}.", "Free room, then try again."
        ) from error


def _compact_all(folder: Path, now: datetime, days: float) -> Compaction:
    done = Compaction()
    for kind, name in KINDS.items():
        paths = [folder / segment.file_name for segment in list_segments(folder, name)]
        for path in paths:
            done = _added(done, _compact(path, kind, now) if path.exists() else Compaction())
        if days > 0:
            done = _added(done, _expire(folder, name, now, days))
    return done


def _added(a: Compaction, b: Compaction) -> Compaction:
    names = ("segments", "records", "damaged", "size_before", "size_after", "deleted")
    return Compaction(**{name: getattr(a, name) + getattr(b, name) for name in names})


def _compact(path: Path, kind: Kind, now: datetime) -> Compaction:
    with path.open("r+b") as file:
        if not _held(file):
            return Compaction()  # its writer is alive
        data = file.read()
        found = scan(data)
        if not found.closed:
            if now.timestamp() - path.stat().st_mtime < ABANDONED.total_seconds():
                return Compaction()  # its writer may come back and go on in it
            file.seek(found.end)
            file.truncate()
            file.write(END)  # whoever comes back now begins another one
            file.flush()
            os.fsync(file.fileno())
        end = path.stat().st_size
        size = sum(
            _write(frame, compacted_file(path.parent, path.name, day, end))
            for day, frame in to_frames(kind, found.payloads).items()
        )
        if not found.payloads:  # an empty one needs a trace too: its number must not be given again
            size = _write_empty(kind, compacted_file(path.parent, path.name, f"{now:%Y-%m-%d}", end))
        path.unlink()
        _sync(path.parent)
    return Compaction(
        segments=1, records=len(found.payloads), damaged=found.damaged, size_before=len(data), size_after=size
    )


def _write(frame: object, place: Path) -> int:
    import polars as pl

    if not isinstance(frame, pl.DataFrame):
        return 0
    for folder in (place.parent.parent, place.parent):
        folder.mkdir(exist_ok=True)
    fresh = place.with_suffix(".part")
    frame.write_parquet(fresh, compression="zstd", statistics=True)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.rename(place)
    for folder in (place.parent, place.parent.parent, place.parent.parent.parent):
        _sync(folder)
    return place.stat().st_size


def _write_empty(kind: Kind, place: Path) -> int:
    import polars as pl

    from tidewheel.predictions.compacted import OFFSET, RAW, columns_of

    schema = {OFFSET: pl.Int64} | dict.fromkeys(columns_of(kind).names, pl.String) | {RAW: pl.Binary}
    return _write(pl.DataFrame(schema=schema), place)


def _expire(folder: Path, kind: str, now: datetime, days: float) -> Compaction:
    """Delete days that are too old; the newest segment keeps its files, so that its number is not given again."""
    oldest = (now - timedelta(days=days)).astimezone(UTC).date().isoformat()
    segments = [segment.file_name for segment in list_segments(folder, kind)]
    deleted = size = 0
    for name, whole in list_compacted(folder, kind).items():
        for file in whole.files:
            if name != segments[-1] and file.parent.name.removeprefix("day=") < oldest:
                size += file.stat().st_size
                file.unlink()
                deleted += 1
    for day in sorted((folder / COMPACTED).glob("day=*")):
        if not any(day.iterdir()):
            day.rmdir()
    return Compaction(deleted=deleted, size_before=size)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    if not folder.is_dir():
        yield False
        return
    with (folder / ".compacting").open("w") as lock:
        yield _held(lock)


def _held(file: IO[str] | IO[bytes]) -> bool:
    """Take the lock of a file, which is let go when it is closed; say whether nobody else had it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(folder: Path) -> None:
    entry = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def is_due(folder: Path, now: datetime, days: float) -> bool:
    """Say whether a compaction would have something to do: an older segment of some writer, or a day too old."""
    oldest = (now - timedelta(days=days)).astimezone(UTC).date().isoformat()
    if days > 0 and any(day.name.removeprefix("day=") < oldest for day in (folder / COMPACTED).glob("day=*")):
        return True
    for kind in KINDS.values():
        seen: set[str] = set()
        for segment in reversed(list_segments(folder, kind)):
            if segment.writer in seen and (folder / segment.file_name).exists():
                return True
            seen.add(segment.writer)
    return False
