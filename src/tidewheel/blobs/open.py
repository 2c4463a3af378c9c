"""Choose the blob store that a URL names."""

from __future__ import annotations

from pathlib import Path

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.remote import FsspecBlobs
from tidewheel.blobs.store import BlobStore


def open_blobs(url: str) -> BlobStore:
    """Open a folder (`path` or `file://path`) or any fsspec URL such as `s3://bucket/prefix`."""
    if "://" not in url:
        return FolderBlobs(Path(url))
    if url.startswith("file://"):
        return FolderBlobs(Path(url.removeprefix("file://")))
    return FsspecBlobs(url)
