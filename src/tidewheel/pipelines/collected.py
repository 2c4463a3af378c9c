"""What became of the items of a map: the values of those that succeeded, and why each other one failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFailure:
    """An item of a map that gave nothing."""

    index: int  # which item, from 0
    step: str  # name of its call in the run, "" outside one
    message: str  # why, in one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected(Generic[R]):
    """The items of a map that succeeded, in order; iterating gives their values."""

    values: tuple[R, ...]  # of those that succeeded; inside a run handles, which load when they are touched
    indices: tuple[int, ...]  # which items these are, from 0
    failures: tuple[ItemFailure, ...]  # one for each item that failed

    def __iter__(self) -> Iterator[R]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)


def call_each(call: Callable[[Any], R], items: Iterable[Any]) -> Collected[R]:
    """Call a function for each item outside a run, and part what it gives from what it raises.

    >>> found = call_each(lambda x: 6 // x, [1, 0, 3])
    >>> found.values, found.indices, found.failures[0].index, found.failures[0].message
    ((6, 2), (0, 2), 1, 'ZeroDivisionError: integer division or modulo by zero')
    """
    values: list[R] = []
    indices: list[int] = []
    failures: list[ItemFailure] = []
    for index, item in enumerate(items):
        try:
            values.append(call(item))
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises is what is collected
            failures.append(ItemFailure(index=index, step="", message=f"{type(error).__name__}: {error}"))
        else:
            indices.append(index)
    return Collected(values=tuple(values), indices=tuple(indices), failures=tuple(failures))
