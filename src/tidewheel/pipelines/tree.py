"""Scalars and containers as JSON with typed marks; larger parts of a value stay beside it as blobs."""

from __future__ import annotations

import base64
import contextlib
import enum
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import NoneType
from typing import Any

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.store import digest_of
from tidewheel.errors import InvalidInput, UnsupportedFormat
from tidewheel.fingerprint.value import Digested, value_digest
from tidewheel.pipelines.at_hand import size_of
from tidewheel.pipelines.codecs import CODECS, FILE, PICKLE, STREAMING, Codec, Streaming, codec_for
from tidewheel.pipelines.nested import record_fields, with_fields
from tidewheel.pipelines.stored import INLINE_BYTES, Shelf, Stored, content_of, stored_from

NAME = "tree"
MEDIA_TYPE = "application/json"
_MARK = "$"
_LARGE = 8 << 20  # bytes of a value that goes to a file at once, where the blob store has files
_PLAIN = frozenset({NoneType, bool, int, float, str})
SCALARS = _PLAIN | {bytes, complex, date, datetime, time, timedelta}  # may be shared: they cannot be changed


class Marked:
    """A value that is stored already and stands inside another one, such as the output of a step."""

    __slots__ = ("stored",)

    def __init__(self, stored: Stored) -> None:
        self.stored = stored


def encode(value: object, shelf: Shelf, *, content: str | None = None, paths: bool = False) -> Stored:
    """Keep a value, its blobs first; `content` is its digest where the caller knows it.

    With `paths` the files that paths point to are kept too (outputs of steps), else the path alone.

    Raises InvalidInput for a value that cannot be kept, StorageUnavailable when there is no room.
    """
    if isinstance(value, Marked):
        return value.stored
    codec = _codec(value, paths=paths)
    if codec is not None:
        return _whole(value, codec, shelf, content)
    writer = _Writer(shelf, paths=paths)
    try:
        text = json.dumps(writer.write(value), separators=(",", ":"))
    except RecursionError:
        return _whole(value, PICKLE, shelf, content)
    data = text.encode()
    inline = len(data) <= INLINE_BYTES
    digest = digest_of(data) if inline else shelf.blobs.put(data)
    return Stored(
        codec=NAME,
        content=content_of(value, data) if content is None else content,
        digest=digest,
        size=len(data) + writer.size,
        inline=text if inline else None,
        blobs=tuple(dict.fromkeys([*([] if inline else [digest]), *writer.blobs])),
    )


def encode_record(value: Any, shelf: Shelf) -> Stored:
    """Keep a record so that each field of it can be read, and is known by its content, alone.

    A record is a dataclass instance, a named tuple or a dict with texts as keys; anything else is kept as a whole, and
    so is a record of a class that other processes cannot import.
    """
    fields = _parts_of(value)
    if fields is None:
        return encode(value, shelf, paths=True)
    kept = {name: encode(item, shelf, paths=True) for name, item in fields.items()}
    content = value_digest(_like(value, {name: Digested(stored.content) for name, stored in kept.items()}))
    marked = _like(value, {name: Marked(stored) for name, stored in kept.items()})
    return encode(marked, shelf, content=content, paths=True)


def stored_part(stored: Stored, name: str, shelf: Shelf) -> Stored | None:
    """Return how one field of a record is kept; None where it is not kept by itself."""
    if stored.codec != NAME:
        return None
    found = json.loads(shelf.blobs.get(stored.digest) if stored.inline is None else stored.inline)
    fields = found.get("value") if isinstance(found, dict) and _MARK in found else found
    part = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(part, dict) or part.get(_MARK) != "stored" or not part["value"]["content"]:
        return None
    return stored_from(part["value"])


def _parts_of(value: Any) -> Mapping[str, Any] | None:
    if type(value) is dict:
        return value if value and all(type(key) is str for key in value) and _MARK not in value else None
    names = record_fields(value) if _codec(value, paths=True) is None else None
    return {name: getattr(value, name) for name in names} if names else None


def _like(value: Any, fields: Mapping[str, Any]) -> Any:
    return dict(fields) if type(value) is dict else with_fields(value, fields)


def decode(stored: Stored, shelf: Shelf) -> Any:
    """Return a fresh value; raises MissingBlob, CorruptBlob."""
    data = shelf.blobs.get(stored.digest) if stored.inline is None else stored.inline.encode()
    if stored.codec != NAME:
        return CODECS[stored.codec].decode(data, shelf)
    return _Reader(shelf).read(json.loads(data))


def media_type(stored: Stored) -> str:
    """Return the media type of a stored value's bytes."""
    return MEDIA_TYPE if stored.codec == NAME else CODECS[stored.codec].media_type


def _codec(value: object, *, paths: bool) -> Codec | None:
    if type(value) in SCALARS:
        return None
    codec = codec_for(value)
    if codec is FILE and not paths:
        return None
    return codec if codec is not None or _is_tree(value) else PICKLE


def _whole(value: object, codec: Codec, shelf: Shelf, content: str | None) -> Stored:
    if isinstance(codec, STREAMING) and isinstance(shelf.blobs, FolderBlobs) and size_of(value, 0) > _LARGE:
        with contextlib.suppress(UnsupportedFormat):
            return _streamed(value, codec, shelf.blobs, content)
    try:
        data = codec.encode(value, shelf)
    except UnsupportedFormat:
        codec, data = PICKLE, PICKLE.encode(value, shelf)
    inner = [data.decode().partition("\n")[0]] if codec.name in ("file", "bundle") else []
    if codec.name == "bundle":
        inner += [entry.digest for entry in getattr(value, "manifest").formats]  # noqa: B009 - only bundles have one
    inline = codec.name in ("file", "bundle")
    digest = digest_of(data) if inline else shelf.blobs.put(data)
    return Stored(
        codec=codec.name,
        content=content_of(value, data) if content is None else content,
        digest=digest,
        size=len(data),
        inline=data.decode() if inline else None,
        blobs=tuple(inner) if inline else (digest,),
    )


def _streamed(value: object, codec: Streaming, blobs: FolderBlobs, content: str | None) -> Stored:
    """Keep a large value without its bytes being in memory: a run that passes frames on holds two, not three."""
    kept = blobs.put_written(lambda file: codec.write(value, file))
    return Stored(
        codec=codec.name,
        content=value_digest(value) if content is None else content,
        digest=kept.digest,
        size=kept.size,
        blobs=(kept.digest,),
    )


def _is_tree(value: object) -> bool:
    return type(value) in _WRITERS or isinstance(value, Marked | Path) or _record_fields(value) is not None


def _type_name(kind: type) -> str | None:
    """Return `module:name` of a class that another process can import; None for local classes and scripts."""
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        return None
    try:
        found = _imported(f"{kind.__module__}:{kind.__qualname__}")
    except InvalidInput:
        return None
    return f"{kind.__module__}:{kind.__qualname__}" if found is kind else None


def _imported(name: str) -> Any:
    module, _, qualified = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            f"The class {name} of a stored value is gone: {error}.", "Restore it, or run the step that made it again."
        ) from error
    return found


def _record_fields(value: object) -> Sequence[str] | None:
    """Return the names that make up a record (dataclass, struct, named tuple, enum member); None for anything else."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        names: Sequence[str] | None = ()
    elif is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        if set(getattr(value, "__dict__", ())) - set(names):
            return None  # attributes beside its fields would be lost
    elif isinstance(value, tuple):
        names = getattr(kind, "_fields", None)
    else:
        names = getattr(kind, "__struct_fields__", None)
    return names if names is not None and _type_name(kind) else None


class _Writer:
    """Turns one value into JSON; `blobs` and `size` are what stays beside it."""

    def __init__(self, shelf: Shelf, *, paths: bool) -> None:
        self.blobs: list[str] = []
        self.size = 0
        self._shelf = shelf
        self._paths = paths

    def write(self, value: Any) -> Any:
        if type(value) in _PLAIN:
            return value
        writer = _WRITERS.get(type(value))
        if writer is not None:
            return writer(self, value)
        names = _record_fields(value) if _codec(value, paths=self._paths) is None else None
        if names is not None:
            return self._record(value, names)
        if isinstance(value, Path) and not self._paths:
            return {_MARK: "path", "value": str(value)}
        return self._beside(value)

    def _record(self, value: Any, names: Sequence[str]) -> Any:
        kind = _type_name(type(value))
        if isinstance(value, enum.Enum):
            return {_MARK: "enum", "type": kind, "value": value.name}
        return {_MARK: "record", "type": kind, "value": {name: self.write(getattr(value, name)) for name in names}}

    def _beside(self, value: object) -> Any:
        stored = encode(value, self._shelf, content="", paths=self._paths)  # the whole alone needs a digest
        self.blobs += stored.blobs
        self.size += stored.size
        return {_MARK: "stored", "value": stored.as_json()}

    def mapping(self, value: Mapping[Any, Any]) -> Any:
        if all(type(key) is str for key in value) and _MARK not in value:
            return {key: self.write(item) for key, item in value.items()}
        return {_MARK: "dict", "value": [[self.write(key), self.write(item)] for key, item in value.items()]}

    def sequence(self, value: Sequence[Any]) -> Any:
        items = value if set(map(type, value)) <= _PLAIN else [self.write(item) for item in value]
        return list(items) if type(value) is list else {_MARK: "tuple", "value": list(items)}

    def unordered(self, value: frozenset[Any] | set[Any]) -> Any:
        items = sorted((self.write(item) for item in value), key=json.dumps)
        return {_MARK: type(value).__name__, "value": items}

    def moment(self, value: Any) -> Any:
        if getattr(value, "tzinfo", None) not in (None, UTC):
            return self._beside_pickled(value)
        mark = {_MARK: type(value).__name__, "value": value.isoformat()}
        return mark | {"fold": 1} if getattr(value, "fold", 0) else mark

    def _beside_pickled(self, value: object) -> Any:
        stored = _whole(value, PICKLE, self._shelf, "")
        self.blobs += stored.blobs
        self.size += stored.size
        return {_MARK: "stored", "value": stored.as_json()}

    def duration(self, value: timedelta) -> Any:
        return {_MARK: "timedelta", "value": [value.days, value.seconds, value.microseconds]}

    def binary(self, value: bytes) -> Any:
        return {_MARK: "bytes", "value": base64.b64encode(value).decode()}

    def imaginary(self, value: complex) -> Any:
        return {_MARK: "complex", "value": [value.real, value.imag]}


_WRITERS: dict[type, Callable[[_Writer, Any], Any]] = {
    dict: _Writer.mapping,
    list: _Writer.sequence,
    tuple: _Writer.sequence,
    set: _Writer.unordered,
    frozenset: _Writer.unordered,
    date: _Writer.moment,
    datetime: _Writer.moment,
    time: _Writer.moment,
    timedelta: _Writer.duration,
    bytes: _Writer.binary,
    complex: _Writer.imaginary,
    **dict.fromkeys(_PLAIN, lambda _, value: value),
}


class _Reader:
    """Turns JSON back into the value."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def read(self, item: Any) -> Any:
        if type(item) is list:
            return [self.read(inner) for inner in item]
        if type(item) is not dict:
            return item
        if _MARK not in item:
            return {key: self.read(inner) for key, inner in item.items()}
        value = item["value"]
        if item[_MARK] == "record":
            return _restored(_imported(item["type"]), {name: self.read(inner) for name, inner in value.items()})
        if item[_MARK] == "enum":
            return _imported(item["type"])[value]
        if item[_MARK] == "stored":
            return decode(stored_from(value), self._shelf)
        if item[_MARK] in ("datetime", "time"):
            return _MOMENTS[item[_MARK]](value).replace(fold=item.get("fold", 0))
        return self._simple(item[_MARK], value)

    def _simple(self, mark: str, value: Any) -> Any:
        if mark == "dict":
            return {self.read(key): self.read(inner) for key, inner in value}
        if mark in _CONTAINERS:
            return _CONTAINERS[mark](self.read(inner) for inner in value)
        return _SIMPLE[mark](value)


_MOMENTS: dict[str, Callable[[str], Any]] = {"datetime": datetime.fromisoformat, "time": time.fromisoformat}
_CONTAINERS: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "date": date.fromisoformat,
    "timedelta": lambda value: timedelta(*value),
    "bytes": base64.b64decode,
    "complex": lambda value: complex(*value),
    "path": Path,
}


def _restored(kind: Any, values: Mapping[str, Any]) -> Any:
    """Make a record of its fields without running its __init__ again."""
    if hasattr(kind, "_fields"):
        return kind(*values.values())
    if hasattr(kind, "__struct_fields__"):
        return kind(**values)
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made
