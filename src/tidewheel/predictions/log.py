"""The prediction log: append-only segments of checked frames, one writer each, any number of readers."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import msgspec

from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.predictions.frames import END, frame, scan
from tidewheel.predictions.reader import Cursor, LogReader
from tidewheel.predictions.records import Outcome, Prediction, Shadowed
from tidewheel.predictions.segments import KINDS, Segment, list_segments

SEGMENT_BYTES = 16 << 20
SEGMENT_SECONDS = 86_400.0  # after which a segment is ended however small it is, so that it can be compacted


class Predictions(NamedTuple):
    """What read_log found."""

    records: list[Prediction]  # in the order of the log
    cursor: Cursor  # where to read on


class Outcomes(NamedTuple):
    """What read_outcomes found."""

    records: list[Outcome]  # in the order of the log
    cursor: Cursor  # where to read on


def read_log(folder: Path, cursor: Cursor | None = None, *, limit: int | None = None) -> Predictions:
    """Read the predictions behind a cursor, at most `limit`; only full records, safe while they are written."""
    batch = LogReader(folder, Prediction).read(cursor, limit=limit)
    return Predictions(batch.records, batch.cursor)


def read_outcomes(folder: Path, cursor: Cursor | None = None, *, limit: int | None = None) -> Outcomes:
    """Read the outcomes behind a cursor, at most `limit`; only full records, safe while they are written."""
    batch = LogReader(folder, Outcome).read(cursor, limit=limit)
    return Outcomes(batch.records, batch.cursor)


def _pack(value: object) -> object:
    """Write what is not plain: a block of rows. Read when one comes, because it needs numpy."""
    from tidewheel.predictions.block import pack_block

    return pack_block(value)


class LogWriter:
    """Appends records of one kind to the segments of one folder.

    Records wait in memory until `flush`, which hands all of them to the kernel with one write: what was flushed
    survives the death of the process. `sync` makes it survive the death of the machine; with `strict` every flush does.
    On opening, the writer goes on in the last segment of its name, a torn end cut off; a segment that another process
    holds is left alone.

    `folder` is made when the first record is written; `name` tells apart the writers of one folder;
    `segment_bytes` is the size at which a segment is ended.
    Not for several threads, but for `sync`, which may be called from another one.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        kind: type[Prediction | Outcome | Shadowed] = Prediction,
        segment_bytes: int = SEGMENT_BYTES,
        strict: bool = False,
    ) -> None:
        if not name or not name.replace("-", "").replace("_", "").isalnum():
            raise InvalidInput(f"{name!r} cannot name a log writer.", "Use letters, digits, '-' and '_'.")
        self.folder = folder
        self.torn = 0  # torn ends that were cut off
        self._name = name
        self._kind = KINDS[kind]
        self._segment_bytes = segment_bytes
        self._strict = strict
        self._encode = msgspec.msgpack.Encoder(enc_hook=_pack).encode
        self._pending: list[bytes] = []
        self._descriptor = -1
        self._begun = 0.0  # monotonic second at which the segment was opened
        self._size = 0  # bytes of full frames in the open segment
        self._synced = 0  # of these, bytes known to be on the disk
        self._retired: list[int] = []  # descriptors of ended segments that are still to be synced
        self._aged = False  # whether sync saw that the segment is old
        self._removed = False  # whether sync saw that the file of the open segment was deleted
        self._lock = threading.Lock()  # guards _descriptor and _retired between flush and sync

    def append(self, record: Prediction | Outcome | Shadowed) -> None:
        """Add a record to those that the next flush writes."""
        self._pending.append(frame(self._encode(record)))

    def flush(self) -> None:
        """Write what waits with one write; all of it is in the log, or none.

        Raises StorageUnavailable when the disk is full or cannot be written; the records are then given up.
        """
        if not self._pending:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        try:
            if self._removed:
                self._forget()
            if self._descriptor < 0:
                self._open()
            self._write(data)
            if self._size >= self._segment_bytes or self._aged:
                self._roll()
        except OSError as error:
            raise _unavailable(self.folder, error) from error

    def sync(self) -> None:
        """Force what was flushed onto the disk.

        Raises StorageUnavailable when the disk fails.
        """
        with self._lock:
            waiting, self._retired = self._retired, []
            self._aged = self._descriptor >= 0 and monotonic() - self._begun > SEGMENT_SECONDS
            if self._descriptor >= 0 and self._size > self._synced:
                waiting.append(os.dup(self._descriptor))
                self._synced = self._size
        try:
            for descriptor in waiting:
                os.fdatasync(descriptor)
                # What is written to a deleted file would be lost: the next flush opens another.
                self._removed = os.fstat(descriptor).st_nlink == 0
        except OSError as error:
            self._synced = 0
            raise _unavailable(self.folder, error) from error
        finally:
            for descriptor in waiting:
                os.close(descriptor)

    def close(self) -> None:
        """Flush, sync and let go of the segment; a later writer of the same name goes on in it."""
        self.flush()
        self.sync()
        self._forget()

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._descriptor, data)
            if self._strict:
                os.fdatasync(self._descriptor)
        except OSError:
            self._undo()
            raise
        if written != len(data):  # the disk took a part of it
            self._undo()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def _undo(self) -> None:
        """Cut a half-written frame off; where even that fails, leave the segment to the next opening."""
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._forget()

    def _roll(self) -> None:
        """End the segment. The next record opens another; `sync` puts this one on the disk."""
        with suppress(OSError):  # without the mark readers only wait longer behind a damaged end
            os.write(self._descriptor, END)
        with self._lock:
            self._retired.append(self._descriptor)
            self._descriptor, self._aged = -1, False

    def _forget(self) -> None:
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor, self._removed = -1, False

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        segments = list_segments(self.folder, self._kind)
        own = [segment for segment in segments if segment.writer == self._name]
        if own and self._resume(self.folder / own[-1].file_name):
            return
        self._begin(segments[-1].number + 1 if segments else 1)

    def _resume(self, path: Path) -> bool:
        """Go on in a segment unless it is ended, full, held by a living writer or compacted."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:  # compacted between the two lines above
                os.close(descriptor)
                return False
            data = path.read_bytes()
            found = scan(data)
            if not found.closed:
                if found.end < len(data):
                    os.ftruncate(descriptor, found.end)
                    self.torn += 1
                self._adopt(descriptor, found.end)
                return True
        except BlockingIOError:
            pass  # its writer is alive
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return False

    def _begin(self, number: int) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            path = self.folder / Segment(number=number, writer=self._name, kind=self._kind).file_name
            try:
                descriptor = os.open(path, flags, 0o644)
                break
            except FileExistsError:
                number += 1  # a twin of the same name was faster
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._adopt(descriptor, 0)
        entry = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)

    def _adopt(self, descriptor: int, size: int) -> None:
        with self._lock:
            self._descriptor, self._size, self._synced = descriptor, size, 0
            self._begun, self._aged = monotonic(), False


def _unavailable(folder: Path, error: OSError) -> StorageUnavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageUnavailable(
            f"The disk that holds {folder} is full.", "Free room; the log goes on by itself, nothing was half written."
        )
    return StorageUnavailable(
        f"The log in {folder} cannot be written: {error.strerror or error}.", "Give this user write access to it."
    )
