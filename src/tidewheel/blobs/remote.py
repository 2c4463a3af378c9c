"""Blobs on anything fsspec reaches: S3, GCS, Azure, memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tidewheel.blobs.store import PREFIX, KeptBlob, checked, digest_of, hex_of, missing
from tidewheel.errors import InvalidInput, MissingExtra, StorageUnavailable, TidewheelError

_RENEWED = timedelta(minutes=10)  # far below the shortest grace period of a collection
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")  # what the file systems of fsspec call it
_EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "az": "azure"}


class FsspecBlobs:
    """Blobs under a URL such as `s3://bucket/prefix`; object stores put whole objects or none."""

    def __init__(self, url: str, **options: Any) -> None:
        import fsspec

        scheme = url.split("://", 1)[0]
        try:
            # A remembered listing would call a blob kept that another process has deleted, and put would skip it.
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
        except ImportError as error:
            raise MissingExtra(scheme, _EXTRAS.get(scheme, scheme)) from error
        except ValueError as error:
            raise InvalidInput(f"{url!r} is not a blob URL: {error}.", "Use a folder or s3://bucket/prefix.") from error
        self.url = url

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their digest; raises StorageUnavailable when the store does not take them."""
        digest = digest_of(data)
        path = self._path(digest)
        with self._translated():
            if self._size_if_recent(path) != len(data):
                self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                self._files.pipe_file(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest; raises MissingBlob or CorruptBlob."""
        path = self._path(digest)
        with self._translated():
            try:
                data = bytes(self._files.cat_file(path))
            except FileNotFoundError as error:
                raise missing(digest, self.url) from error
        return checked(digest, data, path)

    def exists(self, digest: str) -> bool:
        """Say whether the digest is kept."""
        path = self._path(digest)
        with self._translated():
            return bool(self._files.exists(path))

    def delete(self, digest: str, *, unused_since: datetime | None = None) -> bool:
        """Forget the digest. An object store cannot compare and delete at once: between both lies one round trip."""
        path = self._path(digest)
        with self._translated(), contextlib.suppress(FileNotFoundError):
            if unused_since is not None and self._used(self._files.info(path)) > unused_since:
                return False
            self._files.rm_file(path)
        return True

    def kept(self) -> Iterator[KeptBlob]:
        """Iterate over all that is kept."""
        with self._translated():
            found = self._files.find(self._root, detail=True)
        for path, info in found.items():
            parent, name = path.rsplit("/", 2)[-2:]
            if len(parent) == 2 and len(name) == 62:
                yield KeptBlob(digest=PREFIX + parent + name, size=int(info["size"]), used=self._used(info))

    def _size_if_recent(self, path: str) -> int | None:
        """Return the size of an object; None for one so old that it is written again, to be safe from collection."""
        try:
            info = self._files.info(path)
        except FileNotFoundError:
            return None
        return int(info["size"]) if datetime.now(UTC) - self._used(info) < _RENEWED else None

    def _used(self, info: Mapping[str, Any]) -> datetime:
        """Return when an object was written; a store that does not tell it is taken to have written it just now."""
        found = next((info[name] for name in _TIMES if info.get(name) is not None), None)
        if isinstance(found, int | float):
            return datetime.fromtimestamp(found, UTC)
        if isinstance(found, str):
            found = datetime.fromisoformat(found)
        if not isinstance(found, datetime):
            return datetime.now(UTC)
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def _path(self, digest: str) -> str:
        text = hex_of(digest)
        return f"{self._root}/{text[:2]}/{text[2:]}"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TidewheelError:
            raise
        except Exception as error:
            raise StorageUnavailable(
                f"The blob store {self.url} does not answer: {type(error).__name__}: {error}.",
                "Check the address, the bucket and the credentials, then try again.",
                passing=isinstance(error, OSError) and not isinstance(error, PermissionError | FileNotFoundError),
            ) from error
