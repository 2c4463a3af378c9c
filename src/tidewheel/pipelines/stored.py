"""Values at rest: a small record inline, or a blob by digest, always with the digest of the content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tidewheel.blobs.store import BlobStore, digest_of
from tidewheel.errors import Unhashable
from tidewheel.fingerprint.value import value_digest

INLINE_BYTES = 1024  # longer values go to the blob store; shorter ones stand in the row


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One value as it is kept."""

    codec: str  # how the bytes are read: tree, parquet, npy, model, pickle ...
    content: str  # hexadecimal digest of the value, the same for the same value however it is encoded
    digest: str  # sha256:<hex> of the bytes
    size: int  # bytes, with all blobs that belong to it
    inline: str | None = None  # the bytes as text, for small trees
    blobs: tuple[str, ...] = ()  # every blob that is needed to read it
    version_id: str = ""  # the artifact version in the graph, once recorded

    def with_version(self, version_id: str) -> Stored:
        """Return this record with the version that it became."""
        return replace(self, version_id=version_id)

    def as_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {
            "codec": self.codec,
            "content": self.content,
            "digest": self.digest,
            "size": self.size,
            "inline": self.inline,
            "blobs": list(self.blobs),
            "version": self.version_id,
        }


def stored_from(record: Mapping[str, Any]) -> Stored:
    """Return the record that a JSON object describes."""
    return Stored(
        codec=record["codec"],
        content=record["content"],
        digest=record["digest"],
        size=record["size"],
        inline=record["inline"],
        blobs=tuple(record["blobs"]),
        version_id=record["version"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Where encoded values are put and taken from; all that a worker needs to know of the store."""

    blobs: BlobStore  # bytes by digest
    files: Path  # folder where stored files are laid out when a step wants a path
    patience: float = 0.0  # seconds that what a step returned waits for room in the blob store


def content_of(value: object, data: bytes) -> str:
    """Return the content digest of a value; for one that has none, the digest of its bytes stands in."""
    try:
        return value_digest(value)
    except Unhashable:
        return digest_of(data).partition(":")[2]
