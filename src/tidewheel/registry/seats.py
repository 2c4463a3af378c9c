"""Seats: which of ten thousand places belongs to which version, moved as little as a change of shares allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

PLACES = 10_000  # a unit's hash is one of these

Seats = tuple[tuple[int, int], ...]  # stretches of places: (version, how many), 10,000 together


def seated(shares: Mapping[int, float], before: Seats = ()) -> Seats:
    """Return who sits where under some shares, which add up to 1, to a ten-thousandth.

    A version whose number of places grows keeps all it had, one whose number shrinks only loses: no unit moves
    between two versions without need. Without `before` each version gets one stretch, in the order given.

    >>> seated({1: 0.9, 2: 0.1})
    ((1, 9000), (2, 1000))
    >>> seated({1: 0.5, 2: 0.5}, before=((1, 9000), (2, 1000)))
    ((1, 5000), (2, 5000))
    """
    counts = place_counts(shares)
    if not before:
        return tuple((version, count) for version, count in counts.items() if count)
    left = dict(counts)
    places: list[int | None] = []
    for version, count in before:  # from the lowest place on, each keeps what it may keep
        kept = min(count, left.get(version, 0))
        places += [version] * kept + [None] * (count - kept)
        left[version] = left.get(version, 0) - kept
    givers = (version for version in counts for _ in range(left[version]))
    return _stretches(next(givers) if place is None else place for place in places)


def place_counts(shares: Mapping[int, float]) -> dict[int, int]:
    """Return how many places each version gets: the whole part of its share, what is left by the largest remainders.

    >>> place_counts({1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
    {1: 3334, 2: 3333, 3: 3333}
    """
    whole = {version: int(share * PLACES + 1e-6) for version, share in shares.items()}
    rest = sorted(whole, key=lambda version: whole[version] - shares[version] * PLACES)
    missing = PLACES - sum(whole.values())
    for version in rest[:missing]:
        whole[version] += 1
    return whole


def shares_of(seats: Seats) -> dict[int, float]:
    """Return the share of the places that each version holds."""
    counts: dict[int, int] = {}
    for version, count in seats:
        counts[version] = counts.get(version, 0) + count
    return {version: count / PLACES for version, count in counts.items()}


def _stretches(places: Iterable[int]) -> Seats:
    return tuple((version, sum(1 for _ in same)) for version, same in groupby(places))
