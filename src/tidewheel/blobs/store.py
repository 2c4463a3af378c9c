"""The blob seam: bytes by digest, and the twin that keeps them in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from tidewheel.errors import CorruptBlob, InvalidInput, MissingBlob

PREFIX = "sha256:"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBlob:
    """Bytes that a store keeps, as its listing tells them."""

    digest: str  # sha256:<hex>
    size: int  # bytes
    used: datetime  # when they were put last; a folder also counts when they were asked for by `exists`


class BlobStore(Protocol):
    """Immutable bytes under the digest of their content; safe for many processes at once.

    What is put, or asked for by `exists`, is about to be relied on: a collector leaves it alone for its grace period.
    """

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their digest; the same bytes again cost nothing.

        Raises StorageUnavailable when they cannot be kept; then nothing half-written is visible.
        """
        ...

    def get(self, digest: str) -> bytes:
        """Return the bytes, checked against the digest; raises MissingBlob or CorruptBlob."""
        ...

    def exists(self, digest: str) -> bool:
        """Say whether bytes are kept under the digest."""
        ...

    def delete(self, digest: str, *, unused_since: datetime | None = None) -> bool:
        """Forget the bytes, with `unused_since` only if nobody has put them since; say whether they are gone."""
        ...

    def kept(self) -> Iterator[KeptBlob]:
        """Iterate over all that is kept, in no order."""
        ...


def digest_of(data: bytes) -> str:
    """Return the SHA-256 digest of bytes, as OCI and in-toto write it.

    >>> digest_of(b"")[:19]
    'sha256:e3b0c44298fc'
    """
    return PREFIX + hashlib.sha256(data).hexdigest()


def hex_of(digest: str) -> str:
    """Return the 64 hexadecimal characters of a digest; InvalidInput for anything else."""
    text = digest.removeprefix(PREFIX)
    if len(text) != 64 or text == digest or not set(text) <= set("0123456789abcdef"):
        raise InvalidInput(f"{digest!r} is not a digest.", "A digest is sha256: and 64 hexadecimal characters.")
    return text


def checked(digest: str, data: bytes, place: str) -> bytes:
    """Return the data if they still match their digest, else raise CorruptBlob that names the place."""
    if digest_of(data) != digest:
        raise CorruptBlob(
            f"The bytes at {place} no longer match their digest {digest}.",
            "Restore that file from a backup, or delete it and run the step that made it again.",
        )
    return data


def missing(digest: str, place: str) -> MissingBlob:
    """Return the error for a digest under which nothing is kept."""
    return MissingBlob(
        f"No bytes are kept under {digest} in {place}.",
        "They were collected or the blob URL changed; run the step that made them again.",
    )


class MemoryBlobs:
    """Blobs in a dictionary, for tests."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._used: dict[str, datetime] = {}

    def put(self, data: bytes) -> str:
        """Keep the bytes; return their digest."""
        digest = digest_of(data)
        self._kept[digest] = bytes(data)
        self._used[digest] = datetime.now(UTC)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest."""
        hex_of(digest)
        if digest not in self._kept:
            raise missing(digest, "memory")
        return checked(digest, self._kept[digest], "memory")

    def exists(self, digest: str) -> bool:
        """Say whether the digest is kept."""
        hex_of(digest)
        if digest in self._kept:
            self._used[digest] = datetime.now(UTC)
        return digest in self._kept

    def delete(self, digest: str, *, unused_since: datetime | None = None) -> bool:
        """Forget the digest."""
        hex_of(digest)
        if unused_since is not None and self._used.get(digest, unused_since) > unused_since:
            return False
        self._kept.pop(digest, None)
        self._used.pop(digest, None)
        return True

    def kept(self) -> Iterator[KeptBlob]:
        """Iterate over all that is kept."""
        for digest, data in tuple(self._kept.items()):
            yield KeptBlob(digest=digest, size=len(data), used=self._used[digest])
