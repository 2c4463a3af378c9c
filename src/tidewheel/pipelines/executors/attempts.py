"""Manifests beside the blobs: what a worker far away leaves of each attempt, written once and never changed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Protocol

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.remote import FsspecBlobs
from tidewheel.blobs.store import BlobStore
from tidewheel.clock import new_id
from tidewheel.errors import InvalidInput, StorageUnavailable

FOLDER = "attempts"  # beside the two-letter folders of the blobs


class Attempts(Protocol):
    """Small files by name; the first one under a name stays."""

    url: str  # blob URL that they stand beside

    def leave(self, name: str, data: bytes) -> bool:
        """Write a file; False, and nothing changes, when there is one of that name. Raises StorageUnavailable."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return a file; None when there is none. Raises StorageUnavailable."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin so, in order. Raises StorageUnavailable."""
        ...

    def drop(self, name: str) -> None:
        """Delete a file, if there is one. Raises StorageUnavailable."""
        ...


def attempt_name(execution_id: str, attempt: int) -> str:
    """Return the name of a manifest.

    >>> attempt_name("0199", 2)
    '0199-2.json'
    """
    return f"{execution_id}-{attempt}.json"


def attempt_number(name: str) -> int:
    """Return which attempt a manifest tells of; 0 for a name that is none of ours.

    >>> attempt_number("0199-2.json"), attempt_number("notes.txt")
    (2, 0)
    """
    number = name.removesuffix(".json").rpartition("-")[2]
    return int(number) if number.isdigit() and name.endswith(".json") else 0


def attempts_beside(blobs: BlobStore) -> Attempts:
    """Return where the manifests beside some blobs are.

    Raises InvalidInput for blobs that another machine could not see.
    """
    if isinstance(blobs, FolderBlobs):
        return FolderAttempts(blobs.folder.absolute())
    if isinstance(blobs, FsspecBlobs) and not blobs.url.startswith("memory:"):
        return FsspecAttempts(blobs.url)
    raise InvalidInput(
        "Blobs in memory cannot be seen by workers elsewhere.",
        "Set blob_url to a folder that all machines share, or to s3://bucket/prefix.",
    )


class FolderAttempts:
    """Files in a folder that all workers share."""

    def __init__(self, folder: Path) -> None:
        self.url = str(folder)
        self._folder = folder / FOLDER

    def leave(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one: whole or not at all."""
        partial = self._folder / f".partial-{new_id()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(partial, self._folder / name)  # unlike a rename it refuses to replace
        except FileExistsError:
            return False
        except OSError as error:
            raise _unavailable(self.url, error) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
        return True

    def read(self, name: str) -> bytes | None:
        """Return a file, if there is one."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(self.url, error) from error

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin so."""
        try:
            with os.scandir(self._folder) as entries:
                return sorted(entry.name for entry in entries if entry.name.startswith(prefix))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unavailable(self.url, error) from error

    def drop(self, name: str) -> None:
        """Delete a file."""
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise _unavailable(self.url, error) from error


class FsspecAttempts:
    """Objects in a bucket; the store itself refuses a second one of a name (If-None-Match), where it can."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._files: Any = files
        self._root = f"{root.rstrip('/')}/{FOLDER}"

    def leave(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one."""
        path = f"{self._root}/{name}"
        try:
            if self._files.exists(path):
                return False
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            if self.read(name) is not None:
                return False  # S3 says "PreconditionFailed" in an error of its own: somebody was first
            raise _unavailable(self.url, error) from error
        return True

    def read(self, name: str) -> bytes | None:
        """Return an object, if there is one."""
        try:
            return bytes(self._files.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _unavailable(self.url, error) from error

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin so."""
        try:
            found = self._files.find(self._root, prefix=prefix)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise _unavailable(self.url, error) from error
        return sorted(name for path in found if (name := path.rpartition("/")[2]).startswith(prefix))

    def drop(self, name: str) -> None:
        """Delete an object."""
        try:
            self._files.rm_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return
        except Exception as error:
            raise _unavailable(self.url, error) from error


def _unavailable(url: str, error: Exception) -> StorageUnavailable:
    said = getattr(error, "strerror", None) or error
    return StorageUnavailable(
        f"The manifests beside {url} cannot be reached: {type(error).__name__}: {said}.",
        "Check the room there, the address, the rights and the credentials, then try again.",
    )
