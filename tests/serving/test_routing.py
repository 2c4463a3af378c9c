"""The split: sticky, monotone, even, and independent of what else is split."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from tidewheel.serving.routing import BUCKETS, bucket, injected, threshold

UNITS = [f"user-{number}" for number in range(20_000)]


@given(st.text(), st.text())
def test_a_unit_keeps_its_place(salt: str, unit: str) -> None:
    assert bucket(salt, unit) == bucket(salt, unit)
    assert 0 <= bucket(salt, unit) < BUCKETS


def test_a_place_is_the_same_in_every_process() -> None:
    """Known places: a change of the hash would send every unit of a running canary elsewhere."""
    assert [bucket("s", unit) for unit in ("a", "b", "ü")] == [4797, 806, 7448]
    assert bucket("", "") == 0x2D06800538D394C2 % BUCKETS  # XXH3 of nothing, from the specification of xxHash


def test_places_are_even() -> None:
    counts = [0] * 100
    for unit in UNITS:
        counts[bucket("salt", unit) // 100] += 1
    assert chisquare(counts).pvalue > 0.001


def test_two_salts_split_independently() -> None:
    both = sum(bucket("one", unit) < 5_000 and bucket("two", unit) < 5_000 for unit in UNITS)
    assert abs(both / len(UNITS) - 0.25) < 0.015


def test_faults_hit_their_share_whatever_the_arm() -> None:
    hit = {unit for unit in UNITS if injected("salt", unit, 0.05)}
    assert abs(len(hit) / len(UNITS) - 0.05) < 0.006
    challenger = [unit for unit in UNITS if bucket("salt", unit) < threshold(0.25)]
    assert abs(len(hit & set(challenger)) / len(challenger) - 0.05) < 0.012
    assert not any(injected("salt", unit, 0.0) for unit in UNITS)
