"""The canonical encoding of values: typed, length-prefixed, a digest per value, so that `1` is not `"1"`."""

from __future__ import annotations

import enum
import hashlib
import math
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import BuiltinFunctionType, EllipsisType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

from tidewheel.errors import Unhashable
from tidewheel.fingerprint.files import path_digest

SIZE = 32  # bytes of every digest here
FORMAT = b"tidewheel-1"  # goes into every digest; raised when the encoding changes

_MEND = "Pass its content instead (a frame, an array, a path), or give its class a __digest__() method."


@dataclass(frozen=True, slots=True)
class Digested:
    """A value known by its digest alone; it counts in any container as the value itself would."""

    digest: str  # hexadecimal, as `value_digest` gives it


def combine(tag: str, parts: Iterable[bytes | memoryview]) -> bytes:
    """Digest a tag and parts, each with its length before it, so that no two lists of parts look alike."""
    whole = hashlib.blake2b(FORMAT, digest_size=SIZE)
    for part in (tag.encode(), *parts):
        whole.update(len(part).to_bytes(8))
        whole.update(part)
    return whole.digest()


def type_name(value: object) -> str:
    """Return module and qualified name of a value's class."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


class Encoder:
    """Digests values; `code_of` digests the functions and classes that are met on the way.

    One encoder serves one top-level value: it remembers what it has seen by identity.
    """

    def __init__(self, code_of: Callable[[Any], str]) -> None:
        self._code_of = code_of
        self._seen: dict[int, tuple[object, bytes]] = {}  # holds the object, so that its id stays its own
        self._open: set[int] = set()

    def digest(self, value: object) -> bytes:
        """Return the digest of a value; raises Unhashable for one whose content cannot be told."""
        scalar = _SCALARS.get(type(value))
        if scalar is not None:
            return combine(type(value).__name__, [scalar(value)])
        if isinstance(value, Digested):
            return bytes.fromhex(value.digest)
        known = self._seen.get(id(value))
        if known is not None:
            return known[1]
        if id(value) in self._open:
            raise Unhashable(f"A {type_name(value)} contains itself.", _MEND)
        self._open.add(id(value))
        try:
            found = self._compound(value)
        except RecursionError as error:
            raise Unhashable(f"A {type_name(value)} is nested too deep to be digested.", _MEND) from error
        finally:
            self._open.discard(id(value))
        self._seen[id(value)] = (value, found)
        return found

    def _compound(self, value: Any) -> bytes:
        plain = self._containers.get(type(value))
        if plain is not None:
            return plain(self, value)
        own = getattr(type(value), "__digest__", None)
        if callable(own):
            return combine("own", [type_name(value).encode(), str(own(value)).encode()])
        from tidewheel.fingerprint.tabular import tabular_parts

        parts = tabular_parts(value)
        if parts is not None:
            return combine(parts.tag, map(self._part, parts.parts))
        return self._object(value)

    def _part(self, part: object) -> bytes | memoryview:
        """Digest a part that was made for this, such as one column: not remembered, so that it can go at once."""
        if isinstance(part, bytes | memoryview):
            return part
        return Encoder(self._code_of).digest(part)

    def _object(self, value: Any) -> bytes:
        if isinstance(value, FunctionType | type):
            return combine("code", [self._code_of(value).encode()])
        if isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            inner = b"" if owner is None or isinstance(owner, ModuleType) else self.digest(owner)
            return combine("builtin", [f"{value.__module__}.{value.__qualname__}".encode(), inner])
        if isinstance(value, MethodType):
            return combine("method", [self.digest(value.__func__), self.digest(value.__self__)])
        kind = self.digest(type(value))
        if isinstance(value, enum.Enum):
            return combine("enum", [kind, value.name.encode()])
        fields = _fields_of(value)
        if fields is not None:
            return combine("record", [kind, *(self._pair(name, getattr(value, name)) for name in fields)])
        if callable(value) and callable(getattr(value, "__wrapped__", None)):
            return combine("wrapped", [kind, self.digest(value.__wrapped__)])
        return self._reduced(value, kind)

    def _reduced(self, value: Any, kind: bytes) -> bytes:
        """Digest what pickle would keep of an object, part by part."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception as error:  # a class may raise anything here; that it cannot be taken apart is the answer
            raise Unhashable(f"A {type_name(value)} cannot be digested: {error}.", _MEND) from error
        if isinstance(reduced, str):
            return combine("global", [kind, reduced.encode()])
        maker, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        return combine(
            "object",
            [
                kind,
                self._maker(maker),
                self.digest(arguments),
                self._state(state),
                self.digest(None if items is None else list(items)),
                self.digest(None if pairs is None else list(pairs)),
            ],
        )

    def _maker(self, maker: Any) -> bytes:
        """Digest the function that rebuilds an object by its name: the object's class tells the rest."""
        name = f"{getattr(maker, '__module__', '')}.{getattr(maker, '__qualname__', type_name(maker))}"
        return combine("maker", [name.encode()])

    def _state(self, state: Any) -> bytes:
        """Digest the attributes of an object; the order in which they were set does not count."""
        if isinstance(state, tuple) and len(state) == 2 and all(part is None or type(part) is dict for part in state):
            return combine("slots", [self._state(part) for part in state])
        if type(state) is dict and all(type(name) is str for name in state):
            return combine("attributes", [self._pair(name, state[name]) for name in sorted(state)])
        return self.digest(state)

    def _pair(self, name: object, value: object) -> bytes:
        return self.digest(name) + self.digest(value)

    def _sequence(self, value: Sequence[object]) -> bytes:
        tag = type(value).__name__
        packed = _packed(value)
        if packed is not None:
            return combine(f"{tag}:{packed[0]}", packed[1])
        return combine(tag, [self.digest(item) for item in value])

    def _mapping(self, value: dict[object, object]) -> bytes:
        # The order of a dict counts: a step may iterate over it, and a needless miss is better than a wrong hit.
        return combine("dict", [self._pair(name, item) for name, item in value.items()])

    def _unordered(self, value: Iterable[object]) -> bytes:
        return combine(type(value).__name__, sorted(self.digest(item) for item in value))

    _containers: dict[type, Callable[[Encoder, Any], bytes]] = {  # noqa: RUF012 - a constant table of the class
        list: _sequence,
        tuple: _sequence,
        dict: _mapping,
        set: _unordered,
        frozenset: _unordered,
    }


def _fields_of(value: object) -> Sequence[str] | None:
    """Return the names of the fields of a dataclass, msgspec struct or named tuple."""
    kind = type(value)
    if is_dataclass(kind):
        return [field.name for field in fields(kind)]
    struct_fields = getattr(kind, "__struct_fields__", None)
    if struct_fields is not None:
        return list(struct_fields)
    return getattr(kind, "_fields", None) if isinstance(value, tuple) else None


def _packed(values: Sequence[Any]) -> tuple[str, list[bytes]] | None:
    """Encode a long sequence of scalars of one type in one go; None where the types are mixed or there are few."""
    if len(values) < 8:
        return None
    kinds = set(map(type, values))
    if kinds == {float}:
        return "float", [array("d", (_number(value) for value in values)).tobytes()]
    if kinds == {int}:
        return "int", [",".join(map(str, values)).encode()]
    if kinds == {bool}:
        return "bool", [bytes(values)]
    if kinds == {str}:
        texts = [text.encode("utf-8", "surrogatepass") for text in values]
        return "str", [array("q", map(len, texts)).tobytes(), b"".join(texts)]
    return None


def _number(value: float) -> float:
    """Return a float with one bit pattern for every NaN: their payloads mean nothing and do not survive storage."""
    return value if value == value else math.nan  # noqa: PLR0124 - only NaN differs from itself


def _text(value: object) -> bytes:
    return repr(value).encode()


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    NoneType: _text,
    EllipsisType: _text,
    bool: _text,
    int: _text,
    float: lambda value: struct.pack(">d", _number(value)),
    complex: lambda value: struct.pack(">dd", _number(value.real), _number(value.imag)),
    str: lambda value: value.encode("utf-8", "surrogatepass"),
    bytes: bytes,
    bytearray: bytes,
    date: _text,
    time: _text,
    datetime: _text,
    timedelta: _text,
    type(Path()): lambda value: path_digest(value).encode(),
    PurePosixPath: _text,
    PureWindowsPath: _text,
}
