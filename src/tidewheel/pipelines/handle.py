"""Handles: what a step returns inside a pipeline, typed as the value, waiting only when it is touched."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast

from tidewheel.pipelines.nested import mapped

T = TypeVar("T")
_SOURCE = "_tidewheel_source"  # a name that no value has for itself
_FIELDS = "_tidewheel_fields"


class Source(Protocol):
    """What stands behind a handle."""

    def get(self) -> Any:
        """Return the value, waiting for it if need be; raises StepFailed when there will be none."""
        ...


_BINARY: Sequence[Callable[[Any, Any], Any]] = (
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.matmul,
    operator.and_,
    operator.or_,
    operator.xor,
    operator.lshift,
    operator.rshift,
    divmod,
)
_FORWARDED: dict[str, Callable[..., Any]] = {
    "__bool__": bool,
    "__int__": int,
    "__float__": float,
    "__complex__": complex,
    "__index__": operator.index,
    "__str__": str,
    "__repr__": repr,
    "__bytes__": bytes,
    "__format__": format,
    "__hash__": hash,
    "__len__": len,
    "__next__": next,
    "__reversed__": reversed,
    "__contains__": operator.contains,
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "__delitem__": operator.delitem,
    "__round__": round,
    "__trunc__": math.trunc,
    "__floor__": math.floor,
    "__ceil__": math.ceil,
    "__neg__": operator.neg,
    "__pos__": operator.pos,
    "__abs__": abs,
    "__invert__": operator.invert,
    "__eq__": operator.eq,
    "__ne__": operator.ne,
    "__lt__": operator.lt,
    "__le__": operator.le,
    "__gt__": operator.gt,
    "__ge__": operator.ge,
    "__dir__": dir,
    "__fspath__": lambda item: item.__fspath__(),
}


def _forward(act: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any) -> Any:
        return act(_get(self), *args)

    return method


def _forward_reflected(act: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return act(other, _get(self))

    return method


def _forwarding(kind: type[Handle]) -> type[Handle]:
    """Give the class every method that Python looks up on the class instead of the object."""
    for name, act in _FORWARDED.items():
        setattr(kind, name, _forward(act))
    for act in _BINARY:
        bare = act.__name__.strip("_")
        setattr(kind, f"__{bare}__", _forward(act))
        setattr(kind, f"__r{bare}__", _forward_reflected(act))
    return kind


@_forwarding
class Handle:
    """A value that is on its way; any use of it waits and then acts on the value itself.

    Wanted here, because `wrapt.LazyObjectProxy` refuses iteration and calls until something else has
    touched it. Two things cannot be seen through: `is` (looked for in the source: `identity.py`), and C code
    that asks for an exact type; for those there is `value(handle)`.
    """

    __slots__ = (_SOURCE,)

    def __init__(self, source: Source) -> None:
        object.__setattr__(self, _SOURCE, source)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # isinstance(handle, Model) has to see the value's class
        return type(_get(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(_get(self), name)

    def __setattr__(self, name: str, item: object) -> None:
        setattr(_get(self), name, item)

    def __delattr__(self, name: str) -> None:
        delattr(_get(self), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the value."""
        return _get(self)(*args, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        return iter(_get(self))

    def __enter__(self) -> Any:
        return _get(self).__enter__()

    def __exit__(self, *args: object) -> Any:
        return _get(self).__exit__(*args)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001 - numpy's own signature
        import numpy as np

        return np.array(_get(self), dtype=dtype, copy=copy)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _same, (_get(self),)


class Record(Handle):
    """A record on its way whose declared fields are handles themselves: touching one loads that one alone.

    `fields` makes the handles on demand; `by_item` says whether they are got as `record["name"]` (a typed dict) or
    as `record.name`; with `in_order` they are unpacked like a tuple (a named tuple).
    """

    __slots__ = (_FIELDS,)

    def __init__(self, source: Source, fields: Fields) -> None:
        super().__init__(source)
        object.__setattr__(self, _FIELDS, fields)

    def __getattribute__(self, name: str) -> Any:
        fields: Fields = object.__getattribute__(self, _FIELDS)
        if not fields.by_item and name in fields.names:
            return fields.get(name)
        return super().__getattribute__(name)

    def __getitem__(self, key: Any) -> Any:
        fields: Fields = object.__getattribute__(self, _FIELDS)
        if fields.by_item and type(key) is str and key in fields.names:
            return fields.get(key)
        if fields.in_order and type(key) is int and -len(fields.names) <= key < len(fields.names):
            return fields.get(fields.names[key])
        return _get(self)[key]

    def __iter__(self) -> Iterator[Any]:
        fields: Fields = object.__getattribute__(self, _FIELDS)
        return map(fields.get, fields.names) if fields.in_order else iter(_get(self))

    def __len__(self) -> int:
        fields: Fields = object.__getattribute__(self, _FIELDS)
        return len(fields.names) if fields.in_order else len(_get(self))


class Fields:
    """The handles of a record's fields, each made when it is first asked for."""

    __slots__ = ("_made", "_make", "by_item", "in_order", "names")

    def __init__(
        self, names: tuple[str, ...], make: Callable[[str], Handle], *, by_item: bool = False, in_order: bool = False
    ) -> None:
        self.names = names
        self.by_item = by_item
        self.in_order = in_order
        self._make = make
        self._made: dict[str, Handle] = {}

    def get(self, name: str) -> Any:
        """Return the handle of a field, the same one each time."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]


def _same(item: T) -> T:
    return item


def _get(handle: Handle) -> Any:
    source: Source = object.__getattribute__(handle, _SOURCE)
    return source.get()


def source_of(item: object) -> Source | None:
    """Return what stands behind a handle without touching it; None for any other value."""
    if type(item) in _HANDLES:
        return cast("Source", object.__getattribute__(item, _SOURCE))
    return None


def value(item: T) -> T:
    """Wait for a handle and return the value itself; handles in lists, tuples, dict values and records too.

    >>> value([1, 2])
    [1, 2]
    """
    return cast("T", replaced(item, lambda source: source.get()))


def replaced(item: Any, by: Callable[[Source], Any]) -> Any:
    """Return a value in which each handle (in lists, tuples, dict values, records) gave way to what `by` makes of it.

    Containers without handles are returned as they are, not copied.

    Raises InvalidInput for a container that contains itself.
    """
    return mapped(item, _HANDLES, lambda handle: by(object.__getattribute__(handle, _SOURCE)))


def sources_in(item: object) -> list[Source]:
    """Return what stands behind every handle in a value, in order."""
    found: list[Source] = []

    def keep(source: Source) -> Source:
        found.append(source)
        return source

    replaced(item, keep)
    return found


_HANDLES: tuple[type, ...] = (Handle, Record)
