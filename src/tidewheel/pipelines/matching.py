"""Whether a value is what an annotation says, checked cheaply: containers by their first items."""

from __future__ import annotations

import collections.abc
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from itertools import islice
from typing import Any

from tidewheel.pipelines.nested import record_fields
from tidewheel.pipelines.shape import required_keys

_LOOKED_AT = 100  # items of a list, set or dict whose types are compared
_NUMBERS: Mapping[Any, type] = {float: numbers.Real, int: numbers.Integral, complex: numbers.Complex}
_UNIONS = (typing.Union, types.UnionType)


def mismatch(value: object, annotation: Any) -> str:
    """Return what is wrong with a value for an annotation, "" for nothing.

    As type checkers see it, an int is a float and a subclass is its base; a numpy number counts as the number that it
    is. Of a list, set or dict the first 100 items are looked at. What cannot be checked at run time (protocols, type
    variables, what a callable takes) counts as right.

    >>> mismatch(3, float), mismatch("3", int | None)
    ('', 'expected int | None, got str')
    >>> mismatch({"a": [1, "2"]}, dict[str, list[int]])
    "expected int at ['a'][1], got str"
    """
    found = _compared(value, annotation, "")
    if found is None:
        return ""
    path, expected, got = found
    return f"expected {expected}{f' at {path.strip()}' if path else ''}, got {got}"


def type_name(annotation: Any) -> str:
    """Return an annotation as one would write it."""
    if annotation is None or annotation is types.NoneType:
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__.rpartition("<locals>.")[2]
    origin, items = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNIONS:
        return " | ".join(type_name(item) for item in items)
    if origin is not None and isinstance(origin, type) and items and not isinstance(items[0], list):
        inner = ", ".join("..." if item is Ellipsis else type_name(item) for item in items)
        return f"{origin.__name__}[{inner}]"
    return str(annotation).replace("typing.", "")


_Found = tuple[str, str, str] | None


def _compared(value: Any, annotation: Any, path: str) -> _Found:
    """Return where a value differs, what is expected there and what it is; None where it fits."""
    origin, items = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated or isinstance(annotation, typing.NewType):
        return _compared(value, items[0] if items else annotation.__supertype__, path)
    if origin in _UNIONS or origin is typing.Literal:
        literal = origin is typing.Literal
        fits = any(_is_literally(value, item) if literal else _compared(value, item, path) is None for item in items)
        return None if fits else (path, type_name(annotation), repr(value)[:60] if literal else _kind(value))
    kind = types.NoneType if annotation is None else origin or annotation
    if typing.is_typeddict(kind):
        return _typed_dict(value, kind, path)
    if kind is Any or not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return None  # Any, a type variable, a protocol
    if not isinstance(value, _NUMBERS.get(kind, kind)):
        return path, type_name(annotation), _kind(value)
    return _inside(value, kind, items, path)


def _is_literally(value: Any, item: Any) -> bool:
    return type(value) is type(item) and value == item


def _inside(value: Any, kind: type, items: tuple[Any, ...], path: str) -> _Found:
    if kind is tuple and items:
        return _tuple(value, items, path)
    if items and issubclass(kind, collections.abc.Mapping) and len(items) == 2:
        keys = ((f"{path} (a key)", key, items[0]) for key in islice(value, _LOOKED_AT))
        values = ((f"{path}[{key!r}]", value[key], items[1]) for key in islice(value, _LOOKED_AT))
        return _first((*keys, *values))
    if items and len(items) == 1 and isinstance(value, collections.abc.Sequence | collections.abc.Set):
        return _first((f"{path}[{n}]", item, items[0]) for n, item in enumerate(islice(value, _LOOKED_AT)))
    if is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        hints = _hints(type(value))
        names = record_fields(value) or ()
        return _first((f"{path}.{name}", getattr(value, name), hints.get(name, Any)) for name in names)
    return None


def _tuple(value: Any, items: tuple[Any, ...], path: str) -> _Found:
    if len(items) == 2 and items[1] is Ellipsis:
        return _first((f"{path}[{n}]", item, items[0]) for n, item in enumerate(value[:_LOOKED_AT]))
    wanted = () if items == ((),) else items
    if len(value) != len(wanted):
        return path, f"{len(wanted)} values", f"{len(value)}"
    return _first((f"{path}[{n}]", item, kind) for n, (item, kind) in enumerate(zip(value, wanted, strict=True)))


def _typed_dict(value: Any, kind: Any, path: str) -> _Found:
    if not isinstance(value, dict):
        return path, type_name(kind), _kind(value)
    hints = _hints(kind)
    missing = sorted(required_keys(kind) - value.keys())
    unknown = sorted(str(key) for key in value.keys() - kind.__annotations__.keys())
    if missing or unknown:
        said = [f"no {missing[0]!r}"] if missing else [f"the key {unknown[0]!r}, which it does not declare"]
        return path, type_name(kind), f"a dict with {said[0]}"
    return _first((f"{path}[{name!r}]", item, hints.get(name, Any)) for name, item in value.items())


def _first(places: Iterable[tuple[str, Any, Any]]) -> _Found:
    for path, value, annotation in places:
        found = _compared(value, annotation, path)
        if found is not None:
            return found
    return None


def _hints(kind: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return {}  # a name that exists for type checkers only


def _kind(value: Any) -> str:
    kind = type(value)
    known = kind.__module__ in ("builtins", "__main__")
    return type_name(kind) if known or value is None else f"{kind.__module__.partition('.')[0]}.{type_name(kind)}"
