"""Values that stay at hand as objects for the next step, up to a limit in bytes; beyond it they are read again."""

from __future__ import annotations

from typing import Any, Protocol
from weakref import ref

LIMIT = 64 << 20  # bytes of all values together; a larger one is handed to the next step and then let go


class Keeps(Protocol):
    """Something that has a value at hand and can read it again."""

    def let_go(self) -> None:
        """Drop the value."""
        ...


class AtHand:
    """Knows who has which values at hand, the longest unused first, and lets the oldest go when there are too many.

    One value above the limit is at hand at a time, until it was handed to a step: a chain of steps that pass large
    frames on holds two of them, the one that goes in and the one that comes out.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.size = 0  # bytes at hand, the one above the limit left out
        self._sizes: dict[int, int] = {}
        self._owners: dict[int, ref[Any]] = {}
        self._large: ref[Any] | None = None

    def keep(self, owner: Keeps, size: int) -> None:
        """Take note of a value at hand; others may have to go."""
        if size > self.limit:
            before = self._large() if self._large is not None else None
            self._large = ref(owner)
            if before is not None and before is not owner:
                before.let_go()
            return
        number = id(owner)
        self._forget(number)
        while self._sizes and self.size + size > self.limit:
            oldest = next(iter(self._sizes))
            known = self._owners[oldest]()
            self._forget(oldest)
            if known is not None:
                known.let_go()
        self._sizes[number] = size
        self._owners[number] = ref(owner, lambda _: self._forget(number))
        self.size += size

    def handed(self, owner: Keeps) -> None:
        """Take note that a value was handed to a step: one above the limit goes now, another stays the longest."""
        if self._large is not None and self._large() is owner:
            self._large = None
            owner.let_go()
        elif id(owner) in self._sizes:
            self._sizes[id(owner)] = self._sizes.pop(id(owner))

    def _forget(self, number: int) -> None:
        self.size -= self._sizes.pop(number, 0)
        self._owners.pop(number, None)


def size_of(value: Any, stored: int) -> int:
    """Return about how many bytes a value takes in memory; `stored` is what it takes at rest.

    >>> size_of(5, 1)
    1
    """
    for name in ("nbytes", "estimated_size"):
        found = getattr(type(value), name, None)
        if found is not None:
            size = value.estimated_size() if name == "estimated_size" else value.nbytes
            return max(int(size), stored)
    if type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "memory_usage"):
        usage = value.memory_usage()
        return max(int(usage.sum() if hasattr(usage, "sum") else usage), stored)
    return stored
