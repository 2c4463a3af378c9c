"""The digest of a value by its content."""

from __future__ import annotations

from typing import Any

from tidewheel.fingerprint.canonical import Digested, Encoder
from tidewheel.fingerprint.code import code_digest

__all__ = ["Digested", "value_digest"]


def value_digest(value: object) -> str:
    """Return a hexadecimal digest of a value's type and content, the same in every process.

    Frames and arrays count by content, a `Path` by the bytes it points to, functions and classes of the
    project by their code, an object with a `__digest__()` method by what that returns.

    >>> value_digest(1) == value_digest("1")
    False
    >>> value_digest([1, 2]) == value_digest([Digested(value_digest(1)), 2])
    True

    Raises Unhashable for a value whose content cannot be told, such as a generator or a lock.
    """
    return Encoder(_code_of).digest(value).hex()


def _code_of(item: Any) -> str:
    return code_digest(item).digest
