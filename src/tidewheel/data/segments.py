"""Rows as content-addressed Parquet segments, and the manifest that lists those of a version."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import reduce
from io import BytesIO

import msgspec
import polars as pl

from tidewheel.blobs.store import BlobStore
from tidewheel.data.conform import KEPT
from tidewheel.data.records import Manifest, Schema, Segment
from tidewheel.errors import CorruptBlob
from tidewheel.stats.profile import Profile, merge

MANIFEST_TYPE = "application/vnd.tidewheel.dataset+json"
PACK = 32  # so many neighbouring segments of one level are packed into one of the next level
PACKED_ROWS = 1_000_000  # and never into more rows than this


def keep_rows(blobs: BlobStore, frame: pl.DataFrame, profile: Profile, *, time: str | None, level: int = 0) -> Segment:
    """Keep rows as one segment; the same rows in the same types give the same digest."""
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    data = buffer.getvalue()
    moments = profile.columns.get(time) if time else None
    first, last = (moments.min, moments.max) if moments is not None else (None, None)
    return Segment(
        digest=blobs.put(data),
        rows=frame.height,
        size=len(data),
        profile=keep_profile(blobs, profile),
        first=None if first is None else int(first),
        last=None if last is None else int(last),
        level=level,
    )


def load_rows(blobs: BlobStore, segment: Segment) -> pl.DataFrame:
    """Return the rows of a segment; raises CorruptBlob or MissingBlob."""
    data = blobs.get(segment.digest)
    try:
        return pl.read_parquet(BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise CorruptBlob(
            f"Segment {segment.digest} matches its digest and is still no readable Parquet: {error}",
            "It was written by another version of Parquet; register the dataset anew from its source.",
        ) from error


def keep_profile(blobs: BlobStore, profile: Profile) -> str:
    """Keep a profile, compressed, and return its digest."""
    return blobs.put(zlib.compress(msgspec.json.encode(profile), 6))


def load_profile(blobs: BlobStore, digest: str) -> Profile:
    """Return a kept profile; raises CorruptBlob or MissingBlob."""
    return msgspec.json.decode(zlib.decompress(blobs.get(digest)), type=Profile)


def keep_manifest(blobs: BlobStore, manifest: Manifest) -> str:
    """Keep a manifest and return its digest, which is the version's digest."""
    return blobs.put(msgspec.json.encode(manifest, order="deterministic"))


def load_manifest(blobs: BlobStore, digest: str) -> Manifest:
    """Return the manifest of a version; raises CorruptBlob or MissingBlob."""
    return msgspec.json.decode(blobs.get(digest), type=Manifest)


def joined(frames: Sequence[pl.DataFrame], schema: Schema) -> pl.DataFrame:
    """Return tables one after the other in the columns and types of a schema; a column that one lacks is null there."""
    columns = [
        pl.lit(None).alias(column.name) if not any(column.name in frame.columns for frame in frames) else column.name
        for column in schema.columns
    ]
    table = pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
    casts = [pl.col(column.name).cast(KEPT[column.type]) for column in schema.columns if column.type in KEPT]
    return table.select(columns).with_columns(casts)


def packed(blobs: BlobStore, segments: Sequence[Segment], schema: Schema) -> list[Segment]:
    """Pack the newest segments where there are many small ones, so that reading opens few blobs.

    A row is packed once per level, so the cost per appended row stays bounded; profiles are merged, never counted anew.
    """
    kept = list(segments)
    while _packable(kept[-PACK:]):
        group = kept[-PACK:]
        frame = joined([load_rows(blobs, segment) for segment in group], schema)
        profile = reduce(merge, (load_profile(blobs, segment.profile) for segment in group))
        kept[-PACK:] = [keep_rows(blobs, frame, profile, time=schema.time, level=group[0].level + 1)]
    return kept


def _packable(group: Sequence[Segment]) -> bool:
    same_level = len({segment.level for segment in group}) == 1
    return len(group) == PACK and same_level and sum(segment.rows for segment in group) <= PACKED_ROWS
