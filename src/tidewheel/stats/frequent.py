"""The most frequent values by mergeable Misra-Gries summaries (Agarwal et al., "Mergeable Summaries", 2012)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

Value = float | str


class Frequent(msgspec.Struct, frozen=True, kw_only=True):
    """Values with lower bounds of their counts, most frequent first.

    A true count lies in [count, count + error], and a value that is missing occurs at most `error` times.
    With error 0 the table is complete: every value is in it with its exact count.
    """

    values: list[Value] = []  # most frequent first, ties in ascending order
    counts: list[int] = []  # lower bound of each value's count
    error: int = 0  # how far a count may lie below the truth; at most total / (limit + 1)


def frequent_of(values: Sequence[Value], counts: Sequence[int], limit: int, error: int = 0) -> Frequent:
    """Return the summary of distinct values and their counts, at most `limit` of them.

    >>> frequent_of(["a", "b", "c"], [5, 3, 1], limit=2)
    Frequent(values=['a', 'b'], counts=[4, 2], error=1)
    """
    pairs = sorted(zip(values, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))
    if len(pairs) <= limit:
        kept = pairs
    else:
        cut = pairs[limit][1]
        kept = [(value, count - cut) for value, count in pairs[:limit] if count > cut]
        error += cut
    return Frequent(values=[pair[0] for pair in kept], counts=[pair[1] for pair in kept], error=error)


def merge_frequent(a: Frequent, b: Frequent, limit: int) -> Frequent:
    """Return the summary of both streams; exact while both tables are complete and fit together."""
    table: dict[Value, int] = dict(zip(a.values, a.counts, strict=True))
    for value, count in zip(b.values, b.counts, strict=True):
        table[value] = table.get(value, 0) + count
    return frequent_of(list(table), list(table.values()), limit, a.error + b.error)
