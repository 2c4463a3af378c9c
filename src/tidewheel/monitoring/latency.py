"""Latency quantiles from counts that add up: buckets that grow by 5 %, so a quantile is exact to 2.5 %."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

GROWTH = math.log(1.05)

Buckets = dict[int, int]
"""Bucket number to count; bucket b holds latencies from 1.05**b up to 1.05**(b + 1) microseconds."""


def count_latencies(buckets: Mapping[int, int], micros: Iterable[int]) -> Buckets:
    """Return the buckets with more latencies counted, in microseconds; below 1 counts as 1.

    >>> quantile_ms(count_latencies({}, [1_000] * 99 + [90_000]), 0.5)
    1.0
    """
    counted = dict(buckets)
    for value in micros:
        bucket = math.floor(math.log(max(value, 1)) / GROWTH)
        counted[bucket] = counted.get(bucket, 0) + 1
    return counted


def quantile_ms(buckets: Mapping[int, int], share: float) -> float | None:
    """Return the latency in milliseconds that a share in (0, 1] did not exceed; None without latencies."""
    total = sum(buckets.values())
    if not total:
        return None
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= share * total - 1e-9:
            return round(math.exp((bucket + 0.5) * GROWTH) / 1_000, 2)
    return None
