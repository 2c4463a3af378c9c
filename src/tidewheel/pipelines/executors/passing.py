"""Blobs handed from worker to worker: read from what came along, else from the store; all that is kept goes there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tidewheel.blobs.store import BlobStore, KeptBlob


class PassingBlobs:
    """A blob store with some blobs `at_hand`; what is put is copied to `written` too, up to `limit` bytes in all.

    The store `behind` it always gets everything: what is handed on only spares reading it again.
    """

    def __init__(self, behind: BlobStore, at_hand: BlobStore, written: BlobStore, limit: int) -> None:
        self.behind = behind
        self._at_hand = at_hand
        self._written = written
        self._left = limit

    def put(self, data: bytes) -> str:
        """Keep the bytes in the store and return their digest."""
        digest = self.behind.put(data)
        if len(data) <= self._left:
            self._written.put(data)
            self._left -= len(data)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest, checked wherever they come from."""
        return (self._at_hand if self._at_hand.exists(digest) else self.behind).get(digest)

    def exists(self, digest: str) -> bool:
        """Say whether the store keeps the digest."""
        return self.behind.exists(digest)

    def delete(self, digest: str, *, unused_since: datetime | None = None) -> bool:
        """Forget the digest in the store."""
        return self.behind.delete(digest, unused_since=unused_since)

    def kept(self) -> Iterator[KeptBlob]:
        """Iterate over all that the store keeps."""
        return self.behind.kept()
