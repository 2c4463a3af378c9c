"""Handles: what a step returns inside a pipeline, typed as the value, waiting only when it is touched."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")


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
    touched it. Two things cannot be seen through: `is`, and C code that asks for an exact type; for
    those there is `value(handle)`.
    """

    __slots__ = ("_source",)

    def __init__(self, source: Source) -> None:
        object.__setattr__(self, "_source", source)

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

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _same, (_get(self),)


def _same(item: T) -> T:
    return item


def _get(handle: Handle) -> Any:
    source: Source = object.__getattribute__(handle, "_source")
    return source.get()


def source_of(item: object) -> Source | None:
    """Return what stands behind a handle without touching it; None for any other value."""
    if type(item) is Handle:
        return cast("Source", object.__getattribute__(item, "_source"))
    return None


def value(item: T) -> T:
    """Wait for a handle and return the value itself; handles in lists, tuples and dict values are waited for too.

    >>> value([1, 2])
    [1, 2]
    """
    return cast("T", replaced(item, lambda source: source.get()))


def replaced(item: Any, by: Callable[[Source], Any]) -> Any:
    """Return a value in which each handle (in lists, tuples, dict values) gave way to what `by` makes of it.

    Containers without handles are returned as they are, not copied.
    """
    source = source_of(item)
    if source is not None:
        return by(source)
    kind = type(item)
    if kind is dict:
        changed = {key: replaced(inner, by) for key, inner in item.items()}
        return item if all(changed[key] is inner for key, inner in item.items()) else changed
    if kind is list or kind is tuple:
        items = [replaced(inner, by) for inner in item]
        return item if all(map(operator.is_, items, item)) else kind(items)
    return item


def sources_in(item: object) -> list[Source]:
    """Return what stands behind every handle in a value, in order."""
    found: list[Source] = []

    def keep(source: Source) -> Source:
        found.append(source)
        return source

    replaced(item, keep)
    return found
