"""Values inside lists, tuples, dicts and records: found and replaced, everything else left as it is."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from tidewheel.errors import InvalidInput

_CONTAINERS = frozenset({dict, list, tuple})


def mapped(item: Any, kinds: tuple[type, ...], act: Callable[[Any], Any]) -> Any:
    """Return a value in which each inner value of exactly these kinds gave way to what `act` makes of it.

    Lists, tuples, dict values, named tuples and fields of dataclasses are looked through; those in which nothing was
    replaced are returned as they are, not copied.

    Raises InvalidInput for a container that contains itself.
    """
    return _mapped(item, kinds, act, ())


def record_fields(value: object) -> tuple[str, ...] | None:
    """Return the names of the fields of a dataclass instance or named tuple; None for anything else."""
    kind = type(value)
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind) if _has(value, field.name))
    if issubclass(kind, tuple):
        found: tuple[str, ...] | None = getattr(kind, "_fields", None)
        return found
    return None


def with_fields(record: Any, values: Mapping[str, Any]) -> Any:
    """Return a copy of a record with these fields, without running its `__init__` again."""
    kind = type(record)
    if issubclass(kind, tuple):
        return tuple.__new__(kind, [values.get(name, getattr(record, name)) for name in record_fields(record) or ()])
    made = object.__new__(kind)
    for name in (*getattr(record, "__dict__", ()), *(record_fields(record) or ())):
        object.__setattr__(made, name, values[name] if name in values else getattr(record, name))
    return made


def path_to(item: Any, wrong: Callable[[Any], bool]) -> str:
    """Return where the innermost wrong value stands in a wrong one, as one would write it in Python.

    >>> path_to({"a": [1, -1]}, lambda x: x == -1 or (isinstance(x, dict | list) and "-1" in repr(x)))
    "['a'][1]"
    """
    names = record_fields(item)
    if names is not None:
        inner = {f".{name}": getattr(item, name) for name in names}
    elif isinstance(item, Mapping):
        inner = {f"[{key!r}]": value for key, value in item.items()}
    elif isinstance(item, list | tuple):
        inner = {f"[{place}]": value for place, value in enumerate(item)}
    else:
        inner = {}
    for step, value in inner.items():
        if wrong(value):
            return step + path_to(value, wrong)
    return ""


def _mapped(item: Any, kinds: tuple[type, ...], act: Callable[[Any], Any], above: tuple[int, ...]) -> Any:
    kind = type(item)
    if kind in kinds:
        return act(item)
    names = None if kind in _CONTAINERS else record_fields(item) if _may_be_record(kind) else None
    if kind not in _CONTAINERS and names is None:
        return item
    if id(item) in above:
        raise InvalidInput(
            f"A {kind.__name__} contains itself, so it cannot be passed to a step.", "Pass it without the circle."
        )
    above = (*above, id(item))
    if names is not None:
        return _record(item, names, lambda inner: _mapped(inner, kinds, act, above))
    if kind is dict:
        changed = {key: _mapped(inner, kinds, act, above) for key, inner in item.items()}
        return item if _same(changed.values(), item.values()) else changed
    items = [_mapped(inner, kinds, act, above) for inner in item]
    return item if _same(items, item) else kind(items)


def _record(item: Any, names: Iterable[str], inner: Callable[[Any], Any]) -> Any:
    before = {name: getattr(item, name) for name in names}
    changed = {name: inner(value) for name, value in before.items()}
    return item if _same(changed.values(), before.values()) else with_fields(item, changed)


def _may_be_record(kind: type) -> bool:
    return hasattr(kind, "__dataclass_fields__") or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def _same(one: Iterable[Any], other: Iterable[Any]) -> bool:
    return all(map(operator.is_, one, other))


def _has(value: object, name: str) -> bool:
    """Say whether a field is set; one of a half-made object, or with `field(init=False)`, may not be."""
    try:
        object.__getattribute__(value, name)
    except AttributeError:
        return False
    return True
