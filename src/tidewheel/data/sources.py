"""Where rows come from: CSV, Parquet, JSON, JSON lines and Arrow files, pandas, Polars and Arrow frames."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl

from tidewheel.data.csv_file import parse_csv
from tidewheel.data.frames import from_frame
from tidewheel.data.json_lines import parse_json, parse_json_lines
from tidewheel.errors import InvalidInput, NotFound, StorageUnavailable

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".arrow", ".feather", ".ipc")
ARROW_FILE = b"ARROW1"  # what an Arrow file begins with; a stream of batches has no such mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Rows as they came, before types are settled."""

    frame: pl.DataFrame  # the rows
    uri: str  # file name or kind of frame, for provenance
    form: str  # csv, parquet, jsonl, json, arrow or frame


def load(source: Any, *, texts: Collection[str] = (), known: bool = False) -> Loaded:
    """Read a file or frame.

    `texts` are columns to be kept as text whatever they look like ("007" stays "007"). With `known` the
    columns will be checked against a schema, so that a column that mixes numbers and texts is no error yet.

    Raises NotFound for a missing file (near names are suggested) and InvalidInput for whatever cannot be read:
    unknown suffix, nothing in it, ragged lines, another encoding than UTF-8, column names that occur twice.
    """
    if isinstance(source, (str, PathLike)):
        loaded = _load_file(Path(source), texts, known=known)
    else:
        loaded = Loaded(frame=from_frame(source), uri=f"frame:{type(source).__module__.split('.')[0]}", form="frame")
    _check_shape(loaded)
    return loaded


def _load_file(path: Path, texts: Collection[str], *, known: bool) -> Loaded:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInput(
            f"{path} ends in {suffix or 'nothing'}, which says nothing about its form.",
            f"Use a file ending in {', '.join(SUFFIXES)}, or read it yourself and pass the frame.",
        )
    data = _bytes_of(path)
    if not data:
        raise InvalidInput(f"{path} is empty.", "Check what wrote it; nothing was kept.")
    if suffix in (".csv", ".tsv"):
        frame = parse_csv(data, path.name, texts=texts, separator="\t" if suffix == ".tsv" else None, mixed=known)
        return Loaded(frame=frame, uri=path.name, form="csv")
    if suffix in (".jsonl", ".ndjson"):
        return Loaded(frame=parse_json_lines(data, path.name), uri=path.name, form="jsonl")
    if suffix == ".json":
        return Loaded(frame=parse_json(data, path.name), uri=path.name, form="json")
    if suffix in (".arrow", ".feather", ".ipc"):
        return Loaded(frame=_parse_arrow(data, path.name), uri=path.name, form="arrow")
    return Loaded(frame=_parse_parquet(data, path.name), uri=path.name, form="parquet")


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _no_file(path) from error
    except IsADirectoryError as error:
        raise InvalidInput(f"{path} is a folder.", "Give one file; append the others one by one.") from error
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be read: {error.strerror}.", "Give this user read access.") from error


def _no_file(path: Path) -> NotFound:
    folder = path.parent
    if not folder.is_dir():
        return NotFound("folder", str(folder), mend="Check the path.")
    names = [entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES]
    near = get_close_matches(path.name, names, n=3, cutoff=0.5)
    mend = "" if near else f"Looked in {folder.resolve()} for {', '.join(SUFFIXES)}."
    return NotFound("file", path.name, near or names, mend=mend)


def _parse_parquet(data: bytes, name: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(
            f"{name} is not a readable Parquet file: {str(error).splitlines()[0]}",
            "Check that it was written to its end; a Parquet file begins and ends with PAR1.",
        ) from error


def _parse_arrow(data: bytes, name: str) -> pl.DataFrame:
    try:
        if data.startswith(ARROW_FILE):
            return pl.read_ipc(BytesIO(data))
        return pl.read_ipc_stream(BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(
            f"{name} is not a readable Arrow file: {str(error).splitlines()[0]}",
            "Check that it was written to its end, as an Arrow file or stream.",
        ) from error


def _check_shape(loaded: Loaded) -> None:
    frame = loaded.frame
    if frame.width == 0:
        raise InvalidInput(f"{loaded.uri} has no columns.", "Check what wrote it; nothing was kept.")
    if frame.height == 0:
        raise InvalidInput(f"{loaded.uri} has a header and no rows.", "Check what wrote it; nothing was kept.")
    blank = [index + 1 for index, name in enumerate(frame.columns) if not name.strip()]
    if blank:
        raise InvalidInput(f"Column {blank[0]} of {loaded.uri} has no name.", "Name every column in the header.")
