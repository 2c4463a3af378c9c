"""Which arm answers a unit: sticky, and monotone while a canary grows."""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

from tidewheel.registry.seats import PLACES

BUCKETS = PLACES
FINE = 1 << 53  # steps of a float between 0 and 1


def bucket(salt: str, unit: str) -> int:
    """Return the place of a unit, 0 to 9,999: the same in every process, even over units.

    The challenger gets the places below its share, so a growing share only adds units to it.

    >>> bucket("s", "user-1") == bucket("s", "user-1")
    True
    """
    return xxh3_64_intdigest((salt + unit).encode()) % BUCKETS


def position(salt: str, unit: str) -> float:
    """Return where a unit stands from 0 to 1, in the steps of a float: for chances that no ten thousand places hold.

    >>> 0 <= position("s", "user-1") < 1
    True
    """
    return (xxh3_64_intdigest((salt + unit).encode()) >> 11) / FINE


def threshold(share: float) -> int:
    """Return the number of places that a share of the units takes.

    >>> threshold(0.05)
    500
    """
    return round(share * BUCKETS)


def injected(salt: str, request_id: str, rate: float) -> bool:
    """Whether a game day lets this request fail: the same requests in every process, a share of `rate` of them."""
    return rate > 0 and bucket(f"fault {salt}", request_id) < threshold(rate)
