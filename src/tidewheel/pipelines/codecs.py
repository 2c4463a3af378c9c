"""How values become bytes: safe formats first, a pickle last."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Protocol

from tidewheel.blobs.store import digest_of, hex_of
from tidewheel.errors import InvalidInput, StorageUnavailable, UnsupportedFormat
from tidewheel.pipelines.stored import Shelf

_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # in what Rust says of a failed system call


class Codec(Protocol):
    """Turns values of some types into bytes and back, exactly."""

    name: str  # stands in the journal; never changes its meaning
    media_type: str  # of the bytes

    def encode(self, value: Any, shelf: Shelf) -> bytes:
        """Return the bytes of a value; raises UnsupportedFormat for one that would not come back as it was."""
        ...

    def decode(self, data: bytes, shelf: Shelf) -> Any:
        """Return the value of bytes that `encode` gave."""
        ...

    def shared(self, value: Any) -> Any:
        """Return a live value as another step may have it: itself or a cheap copy; None when it must be decoded."""
        ...


class Streaming(Codec, Protocol):
    """A codec of large values, which go to a file without being bytes in memory first."""

    def write(self, value: Any, file: IO[bytes]) -> None:
        """Write the bytes of a value; raises UnsupportedFormat for one that would not come back as it was."""
        ...


class PolarsCodec:
    """A Polars frame, lazy frame or series as Parquet."""

    media_type = "application/vnd.apache.parquet"

    def __init__(self, kind: str) -> None:
        self.name = f"polars.{kind}"

    def encode(self, value: Any, shelf: Shelf) -> bytes:
        """Return Parquet; a lazy frame is collected."""
        del shelf
        out = io.BytesIO()
        self.write(value, out)
        return out.getvalue()

    def write(self, value: Any, file: IO[bytes]) -> None:
        """Write Parquet."""
        import polars as pl

        frame = value.to_frame() if isinstance(value, pl.Series) else value.lazy().collect()
        for name, dtype in frame.schema.items():
            if _holds_objects(dtype):
                raise InvalidInput(
                    f"The column {name!r} holds Python objects, which no file format keeps.",
                    "Cast it to text, numbers or a struct before it is passed on.",
                )
        try:
            frame.write_parquet(file)
        except pl.exceptions.ComputeError as error:
            told = _OS_ERROR.search(str(error))
            if told is None:
                raise
            raise OSError(int(told[1]), os.strerror(int(told[1]))) from error  # a full disk, as Python says it

    def decode(self, data: bytes, shelf: Shelf) -> Any:
        """Read Parquet."""
        del shelf
        import polars as pl

        frame = pl.read_parquet(io.BytesIO(data))
        if self.name.endswith("Series"):
            return frame.to_series()
        return frame.lazy() if self.name.endswith("LazyFrame") else frame

    def shared(self, value: Any) -> Any:
        """Return a clone: it costs nothing, and what is changed in it stays in it."""
        return value.clone()


def _holds_objects(dtype: Any) -> bool:
    import polars as pl

    inner = [getattr(dtype, "inner", None), *(field.dtype for field in getattr(dtype, "fields", ()))]
    return dtype == pl.Object or any(_holds_objects(part) for part in inner if part is not None)


class PandasCodec:
    """A pandas frame as Parquet, where it comes back as it was."""

    name = "pandas.DataFrame"
    media_type = "application/vnd.apache.parquet"

    def encode(self, value: Any, shelf: Shelf) -> bytes:
        """Write Parquet and compare: mixed columns and exotic indexes do not come back, and are refused."""
        from tidewheel.fingerprint.value import value_digest

        try:
            data: bytes = value.to_parquet(engine="pyarrow")
            same = value_digest(self.decode(data, shelf)) == value_digest(value)
        except Exception as error:  # pyarrow and pandas raise many kinds; each means that it does not fit
            raise UnsupportedFormat(f"This frame does not fit into Parquet: {error}", "It is pickled.") from error
        if not same or value.attrs:
            raise UnsupportedFormat("This frame would come back from Parquet changed.", "It is pickled.")
        return data

    def decode(self, data: bytes, shelf: Shelf) -> Any:
        """Read Parquet."""
        del shelf
        import pandas as pd

        return pd.read_parquet(io.BytesIO(data), engine="pyarrow")

    def shared(self, value: Any) -> Any:
        """Return nothing: a pandas frame is changed in place too often to be shared."""
        del value


class ArrowCodec:
    """An Arrow table as an IPC stream."""

    name = "pyarrow.Table"
    media_type = "application/vnd.apache.arrow.stream"

    def encode(self, value: Any, shelf: Shelf) -> bytes:
        """Return the stream."""
        del shelf
        out = io.BytesIO()
        self.write(value, out)
        return out.getvalue()

    def write(self, value: Any, file: IO[bytes]) -> None:
        """Write the stream."""
        import pyarrow as pa

        with pa.ipc.new_stream(file, value.schema) as writer:
            writer.write_table(value)

    def decode(self, data: bytes, shelf: Shelf) -> Any:
        """Read the stream."""
        del shelf
        import pyarrow as pa

        return pa.ipc.open_stream(data).read_all()

    def shared(self, value: Any) -> Any:
        """Return the table itself: it cannot be changed."""
        return value


class ArrayCodec:
    """A numpy array or number as .npy."""

    media_type = "application/vnd.numpy"

    def __init__(self, kind: str) -> None:
        self.name = f"numpy.{kind}"

    def encode(self, value: Any, shelf: Shelf) -> bytes:
        """Return .npy; arrays of objects and subclasses of ndarray are refused."""
        del shelf
        out = io.BytesIO()
        self.write(value, out)
        return out.getvalue()

    def write(self, value: Any, file: IO[bytes]) -> None:
        """Write .npy."""
        import numpy as np

        if type(value) is not np.ndarray and not isinstance(value, np.generic):
            raise UnsupportedFormat(f"A {type(value).__name__} does not fit into .npy.", "It is pickled.")
        try:
            np.save(file, np.asarray(value), allow_pickle=False)
        except ValueError as error:
            raise UnsupportedFormat(f"This array does not fit into .npy: {error}.", "It is pickled.") from error

    def decode(self, data: bytes, shelf: Shelf) -> Any:
        """Read .npy."""
        del shelf
        import numpy as np

        array = np.load(io.BytesIO(data), allow_pickle=False)
        return array[()] if self.name == "numpy.generic" else array

    def shared(self, value: Any) -> Any:
        """Return a number itself, of an array nothing: arrays are changed in place."""
        return value if self.name == "numpy.generic" else None


class ModelCodec:
    """A Model in its native, exact form."""

    name = "model"
    media_type = "application/vnd.tidewheel.model+msgpack"

    def encode(self, value: Any, shelf: Shelf) -> bytes:
        """Pack the model: skops where possible, a pickle where the model is trusted."""
        del shelf
        from tidewheel.models.packing import pack

        return pack(value)

    def decode(self, data: bytes, shelf: Shelf) -> Any:
        """Unpack the model; these bytes were written by a step of this project."""
        del shelf
        from tidewheel.models.packing import unpack

        return unpack(data, trust=True)

    def shared(self, value: Any) -> Any:
        """Return the model itself: steps do not change a fitted model."""
        return value


class BundleCodec:
    """A stored model bundle by its digest: its blobs are kept already."""

    name = "bundle"
    media_type = "text/plain"

    def encode(self, value: Any, shelf: Shelf) -> bytes:
        """Return the digest as text."""
        del shelf
        digest: str = value.digest
        return digest.encode()

    def decode(self, data: bytes, shelf: Shelf) -> Any:
        """Load the bundle of the digest."""
        from tidewheel.models.bundle import Bundle
        from tidewheel.models.manifest import decode_manifest

        digest = data.decode()
        manifest_bytes = shelf.blobs.get(digest)
        manifest = decode_manifest(manifest_bytes)
        size = len(manifest_bytes) + sum(entry.size for entry in manifest.formats)
        return Bundle(digest=digest, manifest=manifest, size=size, blobs=shelf.blobs)

    def shared(self, value: Any) -> Any:
        """Return the bundle itself: it cannot be changed."""
        return value


class FileCodec:
    """A path that a step returned: the file's bytes, laid out again where it is missing or was changed."""

    name = "file"
    media_type = "application/octet-stream"

    def encode(self, value: Any, shelf: Shelf) -> bytes:
        """Keep the file in the blob store; the bytes here are its digest and its path."""
        if not value.is_file():
            raise InvalidInput(
                f"The path {value} that a step returned is not a file.",
                "Write the file before returning its path; pack a folder into one archive.",
            )
        return f"{shelf.blobs.put(value.read_bytes())}\n{value.absolute()}".encode()

    def decode(self, data: bytes, shelf: Shelf) -> Any:
        """Return a path to a file with exactly these bytes."""
        digest, _, name = data.decode().partition("\n")
        origin = Path(name)
        if origin.is_file() and digest_of(origin.read_bytes()) == digest:
            return origin
        laid_out = shelf.files / hex_of(digest) / origin.name
        if not laid_out.is_file():
            self._lay_out(laid_out, shelf.blobs.get(digest))
        return laid_out

    def _lay_out(self, path: Path, content: bytes) -> None:
        partial = path.with_name(f".partial-{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise StorageUnavailable(
                f"The file {path} cannot be laid out: {error.strerror}.", "Free room or make its folder writable."
            ) from error

    def shared(self, value: Any) -> Any:
        """Return nothing: the file may change while the path does not."""
        del value


class PickleCodec:
    """Anything else as a pickle: readable by this Python with these packages, and only from a store that is trusted."""

    name = "pickle"
    media_type = "application/vnd.python.pickle"

    def encode(self, value: Any, shelf: Shelf) -> bytes:
        """Pickle; raises InvalidInput for what cannot be pickled: locks, generators, open files."""
        del shelf
        import cloudpickle

        try:
            data: bytes = cloudpickle.dumps(value)
        except Exception as error:  # any class may refuse in its own way
            raise InvalidInput(
                f"A {type(value).__module__}.{type(value).__qualname__} cannot be stored: {error}.",
                "Pass and return plain data, frames, arrays, models or paths; open connections inside the step.",
            ) from error
        return data

    def decode(self, data: bytes, shelf: Shelf) -> Any:
        """Unpickle."""
        del shelf
        import cloudpickle

        try:
            return cloudpickle.loads(data)
        except Exception as error:  # whatever its classes raise: the cause is shown
            raise InvalidInput(
                f"A stored pickle cannot be read: {type(error).__name__}: {error}.",
                "Restore the classes and packages it was made with, or run its step again.",
            ) from error

    def shared(self, value: Any) -> Any:
        """Return nothing: what it is cannot be known."""
        del value


STREAMING: tuple[type[Streaming], ...] = (PolarsCodec, ArrayCodec, ArrowCodec)
PICKLE = PickleCodec()
FILE = FileCodec()
_ALL: tuple[Codec, ...] = (
    PolarsCodec("DataFrame"),
    PolarsCodec("LazyFrame"),
    PolarsCodec("Series"),
    ArrayCodec("ndarray"),
    ArrayCodec("generic"),
    PandasCodec(),
    ArrowCodec(),
    ModelCodec(),
    BundleCodec(),
    FILE,
    PICKLE,
)
CODECS: Mapping[str, Codec] = MappingProxyType({codec.name: codec for codec in _ALL})
_NAMES = {("tidewheel", "Model"): "model", ("tidewheel", "Bundle"): "bundle"}


def codec_for(value: object) -> Codec | None:
    """Return the codec that keeps a value whole; None for scalars, containers, and what only a pickle can hold."""
    if isinstance(value, Path):
        return FILE
    for kind in type(value).__mro__:
        root = kind.__module__.partition(".")[0]
        found = CODECS.get(_NAMES.get((root, kind.__name__), f"{root}.{kind.__name__}"))
        if found is not None:
            return found
    return None
