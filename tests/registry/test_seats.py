"""Seats move no more than a change of shares takes."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tidewheel.registry.seats import PLACES, Seats, place_counts, seated, shares_of

VERSIONS = st.lists(st.integers(1, 9), min_size=1, max_size=6, unique=True)


@st.composite
def shares(draw: st.DrawFn) -> dict[int, float]:
    weights = {version: draw(st.integers(0, 1_000)) for version in draw(VERSIONS)}
    weights[min(weights)] += 1
    total = sum(weights.values())
    return {version: weight / total for version, weight in weights.items()}


def places(seats: Seats) -> list[int]:
    return [version for version, count in seats for _ in range(count)]


@given(shares())
def test_every_place_is_given_and_shares_are_kept_to_a_ten_thousandth(wanted: dict[int, float]) -> None:
    seats = seated(wanted)
    assert len(places(seats)) == PLACES
    assert all(abs(shares_of(seats).get(version, 0.0) - share) <= 1 / PLACES for version, share in wanted.items())


@given(st.lists(shares(), min_size=2, max_size=5))
def test_who_grows_keeps_its_places_and_who_shrinks_only_loses(changes: list[dict[int, float]]) -> None:
    seats = seated(changes[0])
    for wanted in changes[1:]:
        before, seats = places(seats), seated(wanted, seats)
        after = places(seats)
        assert {v: after.count(v) for v in set(after)} == {v: n for v, n in place_counts(wanted).items() if n}
        for version in {*before, *after}:
            held = {place for place, each in enumerate(before) if each == version}
            holds = {place for place, each in enumerate(after) if each == version}
            assert held <= holds or holds <= held


@given(shares())
def test_the_same_shares_move_nobody(wanted: dict[int, float]) -> None:
    assert seated(wanted, seated(wanted)) == seated(wanted)


def test_a_share_is_never_rounded_below_a_floor_of_whole_places() -> None:
    third = {1: 0.02, 2: 0.02, 3: math.nextafter(0.96, 0)}
    assert place_counts(third) == {1: 200, 2: 200, 3: 9_600}
