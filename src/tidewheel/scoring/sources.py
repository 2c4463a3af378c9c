"""Rows to be scored: files by path, glob or URL, and datasets of the store; read in pieces, never as a whole."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from tidewheel.blobs.store import PREFIX
from tidewheel.data.conform import KEPT
from tidewheel.data.datasets import get as get_dataset
from tidewheel.data.segments import load_manifest
from tidewheel.errors import InvalidInput, MissingExtra, NotFound, StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.models.signature import Signature, select

FORMS: Mapping[str, str] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}
_GUESSED = 10_000  # rows of a text file by which the types of columns that the model does not read are guessed
_TEXT_TYPES: Mapping[str, Any] = {"float": pl.Float64, "bool": pl.Boolean, "string": pl.String}


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the input, on this machine."""

    place: str  # as the caller knows it
    path: str  # where it is read
    form: str  # parquet, csv, tsv, ndjson or arrow
    rows: int  # number of rows
    stamp: str  # changes when the file does: size and time, or the digest of a segment


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The whole input, in the order of the output."""

    place: str  # as the caller gave it
    tables: tuple[Table, ...]  # its files; none is empty
    kinds: dict[str, str]  # types of the model's fields, for files of text
    filled: dict[str, str] = {}  # columns of a dataset with their types; what a segment lacks is missing
    version_id: str = ""  # dataset version in the graph, or ""
    digest: str = ""  # of a dataset version; "": see digest_of_files

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(table.rows for table in self.tables)

    def scan(self, table: Table) -> pl.LazyFrame:
        """Return one file, unread."""
        frame = _scan(table.path, table.form, self.kinds)
        if self.filled:
            names = frame.collect_schema().names()
            frame = frame.with_columns(
                pl.lit(None, dtype=KEPT.get(kind, pl.Null)).alias(name)  # type: ignore[call-overload]
                for name, kind in self.filled.items()
                if name not in names
            )
        return frame

    def frames(self, table: Table, offset: int, sizes: Sequence[int]) -> Iterator[pl.DataFrame]:
        """Read so many rows after so many rows; holds two pieces at most.

        Raises InvalidInput when the file is damaged, or shorter than it was.
        """
        with _readable(table.place):
            chunk = max(sizes, default=1)
            scan = self.scan(table).slice(offset, sum(sizes))
            batches = iter(scan.collect_batches(chunk_size=chunk, maintain_order=True, lazy=True))
            held = pl.DataFrame()
            for size in sizes:
                while held.height < size:
                    more = _next(batches, table)
                    held = pl.concat([held, more]) if held.height else more
                yield held.head(size)
                held = held.slice(size)


def _next(batches: Iterator[pl.DataFrame], table: Table) -> pl.DataFrame:
    more = next(batches, None)
    if more is None:
        raise InvalidInput(f"{table.place} became shorter while it was read.", "Score it again.")
    return more


def open_source(store: Store | None, given: str, signature: Signature, scratch: Path) -> Source:
    """Find what is to be scored, count its rows, and check that the model can read it.

    `given` is a file, a folder or glob of files, an fsspec URL such as s3://bucket/rows-*.parquet (brought to
    `scratch` first), or a dataset of the store (`name`, `name:3`, `name@alias`).

    Raises NotFound for what is not there and for a column that the model misses, InvalidInput for values of another
    type, files that cannot be read, or no rows.
    """
    kinds: dict[str, str] = {field.name: field.kind for field in signature.fields}
    if _is_dataset(given):
        source = _dataset(_needed(store, given), given, kinds, scratch)
    else:
        paths = _fetched(given, scratch) if "://" in given else [(path, path) for path in _local(given)]
        tables = tuple(_table(place, path, kinds) for place, path in paths)
        source = Source(place=given, tables=tuple(table for table in tables if table.rows), kinds=kinds)
    if not source.tables:
        raise InvalidInput(f"{given} holds no rows.", "Check what wrote it; nothing was scored.")
    for table in source.tables:
        with _readable(table.place):
            schema = source.scan(table).collect_schema()
        select(signature, pl.DataFrame(schema=schema))
    return source


def form_of(place: str, what: str) -> str:
    """Return the form that a name ends in; InvalidInput for an unknown ending."""
    suffix = Path(place).suffix.lower()
    if suffix not in FORMS:
        raise InvalidInput(
            f"The {what} {place} ends in {suffix or 'nothing'}, which says nothing about its form.",
            f"Use one of {', '.join(FORMS)}.",
        )
    return FORMS[suffix]


def digest_of_files(source: Source) -> str:
    """Return the digest of a dataset version, of one file's bytes, or of the digests of several files in order."""
    if source.digest:
        return source.digest
    digests = [file_digest(Path(table.path)) for table in source.tables]
    return digests[0] if len(digests) == 1 else PREFIX + hashlib.sha256("\n".join(digests).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file, read in pieces."""
    with path.open("rb") as file:
        return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def remote(url: str) -> Iterator[tuple[Any, str]]:
    """Give the file system and the path that a URL names; errors of the network become ours."""
    import fsspec

    scheme = url.split("://", 1)[0]
    try:
        yield fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise MissingExtra(scheme, scheme) from error
    except FileNotFoundError as error:
        raise NotFound("file", url, mend="Check the URL.") from error
    except ValueError as error:
        raise InvalidInput(f"{url!r} is no URL that can be read: {error}.", "Use s3://bucket/name.parquet.") from error
    except OSError as error:
        raise StorageUnavailable(f"{url} is out of reach: {error}.", "Check address and credentials.") from error


def _is_dataset(given: str) -> bool:
    path = Path(given)
    return not ("://" in given or glob.has_magic(given) or path.suffix.lower() in FORMS or path.exists())


def _needed(store: Store | None, given: str) -> Store:
    if store is None:
        raise NotFound("file", given, mend="A dataset needs the store that holds it.")
    return store


def _dataset(store: Store, given: str, kinds: dict[str, str], scratch: Path) -> Source:
    """Put the segments of a dataset into files, one at a time."""
    try:
        found = get_dataset(store, given)
    except NotFound as error:
        raise NotFound(error.kind, error.name, error.known, f"And there is no file {given}.") from error
    manifest = load_manifest(store.blobs, found.digest)
    scratch.mkdir(parents=True, exist_ok=True)
    tables = []
    for segment in manifest.segments:
        path = scratch / f"{segment.digest.removeprefix(PREFIX)}.parquet"
        if not path.exists():
            _write(path, store.blobs.get(segment.digest))
        tables.append(
            Table(place=found.reference, path=str(path), form="parquet", rows=segment.rows, stamp=segment.digest)
        )
    return Source(
        place=found.reference,
        tables=tuple(tables),
        kinds=kinds,
        filled={column.name: column.type for column in found.schema.columns},
        version_id=found.version_id,
        digest=found.digest,
    )


def _write(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)


def _local(given: str) -> list[str]:
    path = Path(given)
    if path.is_dir():
        found = sorted(str(each) for each in path.iterdir() if each.suffix.lower() in FORMS)
    elif path.exists():
        found = [given]
    else:
        found = sorted(glob.glob(given, recursive=True))  # noqa: PTH207 - the pattern may be absolute
    if not found:
        near = [each.name for each in path.parent.iterdir() if each.is_file()] if path.parent.is_dir() else []
        raise NotFound("file", given, near)
    return found


def _fetched(url: str, scratch: Path) -> list[tuple[str, str]]:
    """Bring remote files here; one that was brought before is not brought again."""
    scratch.mkdir(parents=True, exist_ok=True)
    found = []
    with remote(url) as (files, pattern):
        names = sorted(files.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not names:
            raise NotFound("file", url, mend="No file matches.")
        for name in names:
            stamp = hashlib.sha256(f"{name} {files.ukey(name)}".encode()).hexdigest()[:32]
            path = scratch / f"{stamp}{Path(name).suffix.lower()}"
            if not path.exists():
                files.get_file(name, str(path) + ".partial")
                Path(str(path) + ".partial").replace(path)
            found.append((files.unstrip_protocol(name), str(path)))
    return found


def _table(place: str, path: str, kinds: Mapping[str, str]) -> Table:
    form = form_of(path, "input")
    state = Path(path).stat()
    if not state.st_size:
        raise InvalidInput(f"{place} is empty.", "Check what wrote it; nothing was scored.")
    with _readable(place):
        rows = _scan(path, form, kinds).select(pl.len()).collect(engine="streaming").item()
    return Table(place=place, path=path, form=form, rows=rows, stamp=f"{state.st_size}-{state.st_mtime_ns}")


def _scan(path: str, form: str, kinds: Mapping[str, str]) -> pl.LazyFrame:
    if form == "parquet":
        return pl.scan_parquet(path, glob=False)
    if form == "arrow":
        return pl.scan_ipc(path, glob=False)
    overrides = {name: _TEXT_TYPES[kind] for name, kind in kinds.items() if kind in _TEXT_TYPES}
    if form == "ndjson":
        frame = pl.scan_ndjson(path, schema_overrides=overrides, infer_schema_length=_GUESSED)
    else:
        frame = pl.scan_csv(
            path,
            separator="\t" if form == "tsv" else ",",
            schema_overrides=overrides,
            infer_schema_length=_GUESSED,
            try_parse_dates="datetime" in kinds.values(),
            glob=False,
        )
    texts = [n for n, kind in frame.collect_schema().items() if kind == pl.String and kinds.get(n) == "datetime"]
    return frame.with_columns(pl.col(texts).str.to_datetime(time_unit="us")) if texts else frame


@contextmanager
def _readable(place: str) -> Iterator[None]:
    """Turn what Polars says of a damaged file into advice."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        if isinstance(error, StorageUnavailable):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise InvalidInput(
            f"{place} cannot be read: {first}",
            "Check that it was written to its end and is what its name says; what was scored so far is kept.",
        ) from error
