"""Blobs as files in a local folder: written beside, synced, renamed into place."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tidewheel.blobs.store import PREFIX, checked, digest_of, hex_of, missing
from tidewheel.errors import StorageUnavailable


class FolderBlobs:
    """A folder `ab/cdef...` per digest; a blob is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their digest; raises StorageUnavailable on a full or read-only disk."""
        digest = digest_of(data)
        path = self._path(digest)
        if path.exists():
            return digest
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, data)
        except OSError as error:
            raise StorageUnavailable(
                f"{len(data)} bytes cannot be kept in {self.folder}: {error.strerror or error}.",
                "Free room or make the folder writable, then try again; nothing was half written.",
            ) from error
        return digest

    def _write(self, path: Path, data: bytes) -> None:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # a row that names this digest must never outlive its bytes
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest; raises MissingBlob or CorruptBlob."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise missing(digest, str(self.folder)) from error
        except OSError as error:
            raise StorageUnavailable(f"{path} cannot be read: {error.strerror}.", "Check the disk.") from error
        return checked(digest, data, str(path))

    def exists(self, digest: str) -> bool:
        """Say whether the digest is kept."""
        return self._path(digest).exists()

    def delete(self, digest: str) -> None:
        """Forget the digest."""
        self._path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Iterate over all digests; half-written files are passed over."""
        for path in self.folder.glob("??/*"):
            if not path.name.startswith("."):
                yield PREFIX + path.parent.name + path.name

    def _path(self, digest: str) -> Path:
        text = hex_of(digest)
        return self.folder / text[:2] / text[2:]
