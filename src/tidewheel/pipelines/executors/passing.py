"""Blobs handed from worker to worker: read from what came along, else from the store; all that is kept goes there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from tidewheel.blobs.store import BlobStore, KeptBlob, checked


class PassingBlobs:
    """A blob store with some blobs at hand, which remembers what is put into it, up to `limit` bytes.

    The store `behind` it always gets everything: what is handed on only spares reading it again.
    """

    def __init__(self, behind: BlobStore, at_hand: Mapping[str, bytes], limit: int) -> None:
        self.behind = behind
        self.written: dict[str, bytes] = {}
        self._at_hand = at_hand
        self._left = limit

    def put(self, data: bytes) -> str:
        """Keep the bytes in the store and return their digest."""
        digest = self.behind.put(data)
        if digest not in self.written and len(data) <= self._left:
            self.written[digest] = bytes(data)
            self._left -= len(data)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest, checked wherever they come from."""
        found = self._at_hand.get(digest)
        return self.behind.get(digest) if found is None else checked(digest, found, "the other worker")

    def exists(self, digest: str) -> bool:
        """Say whether the store keeps the digest."""
        return self.behind.exists(digest)

    def delete(self, digest: str, *, unused_since: datetime | None = None) -> bool:
        """Forget the digest in the store."""
        return self.behind.delete(digest, unused_since=unused_since)

    def kept(self) -> Iterator[KeptBlob]:
        """Iterate over all that the store keeps."""
        return self.behind.kept()
