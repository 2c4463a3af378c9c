"""Blobs as files in a local folder: written beside, synced, renamed into place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tidewheel.blobs.store import PREFIX, KeptBlob, checked, digest_of, hex_of, missing
from tidewheel.clock import new_id
from tidewheel.errors import StorageUnavailable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class FolderBlobs:
    """A folder `ab/cdef...` per digest; a blob is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their digest; raises StorageUnavailable on a full or read-only disk."""
        digest = digest_of(data)
        path = self._path(digest)
        try:
            if not self._renewed(path) or path.stat().st_size != len(data):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._write(path, data)
        except OSError as error:
            raise StorageUnavailable(
                f"{len(data)} bytes cannot be kept in {self.folder}: {error.strerror or error}.",
                "Free room or make the folder writable, then try again; nothing was half written.",
                passing=error.errno in _FULL,
            ) from error
        return digest

    def put_written(self, write: Callable[[IO[bytes]], None]) -> KeptBlob:
        """Keep what is written into a file, without it ever being in memory as a whole.

        Raises StorageUnavailable on a full or read-only disk, and whatever `write` raises besides.
        """
        temporary = self.folder / f".partial-{new_id()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("x+b") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
                file.seek(0)
                digest = PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
            path = self._path(digest)
            if not self._renewed(path) or path.stat().st_size != size:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(path)
            return KeptBlob(digest=digest, size=size, used=_used(path.stat()))
        except OSError as error:
            raise StorageUnavailable(
                f"A value cannot be kept in {self.folder}: {error.strerror or error}.",
                "Free room or make the folder writable, then try again; nothing was half written.",
                passing=error.errno in _FULL,
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".partial-{new_id()}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # a row that names this digest must never outlive its bytes
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest; raises MissingBlob, CorruptBlob or StorageUnavailable."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise missing(digest, str(self.folder)) from error
        except OSError as error:
            raise _unreadable(path, error) from error
        return checked(digest, data, str(path))

    def exists(self, digest: str) -> bool:
        """Say whether the digest is kept; what was asked for is safe from collection for its grace period."""
        path = self._path(digest)
        try:
            return self._renewed(path)
        except OSError as error:
            raise _unreadable(path, error) from error

    def delete(self, digest: str, *, unused_since: datetime | None = None) -> bool:
        """Forget the digest; raises StorageUnavailable where the folder cannot be written.

        The file is put aside first and its time read then: whoever puts the same bytes meanwhile either renewed its
        time before, and it is put back, or finds no file, and writes it anew.
        """
        path = self._path(digest)
        aside = path.with_name(f".partial-{new_id()}")
        try:
            path.rename(aside)
            if unused_since is not None and _used(aside.stat()) > unused_since:
                aside.rename(path)
                return False
            aside.unlink()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StorageUnavailable(
                f"{path} cannot be deleted: {error.strerror or error}.", "Make the folder writable, then try again."
            ) from error
        return True

    def kept(self) -> Iterator[KeptBlob]:
        """Iterate over all that is kept; half-written files are passed over."""
        for path in self.folder.glob("??/*"):
            if path.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError):  # another collector was faster
                found = path.stat()
                digest = PREFIX + path.parent.name + path.name
                yield KeptBlob(digest=digest, size=found.st_size, used=_used(found))

    def _renewed(self, path: Path) -> bool:
        """Say whether a file is there, and mark it as used now."""
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        except PermissionError:
            return path.exists()  # a store that can only be read; nobody collects there
        return True

    def _path(self, digest: str) -> Path:
        text = hex_of(digest)
        return self.folder / text[:2] / text[2:]


def _used(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)


def _unreadable(path: Path, error: OSError) -> StorageUnavailable:
    return StorageUnavailable(f"{path} cannot be read: {error.strerror or error}.", "Check the disk and its rights.")
