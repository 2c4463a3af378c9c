"""Durations as people write them."""

from __future__ import annotations

import math
import re

from tidewheel.errors import InvalidInput

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")


def seconds(duration: float | str, name: str, *, positive: bool = False) -> float:
    """Return a duration in seconds; text is a number with ms, s, m, h or d.

    >>> seconds("10m", "timeout")
    600.0

    Raises InvalidInput that names the option for anything else, for negative ones, and with `positive` for zero.
    """
    found: float | None = None
    if isinstance(duration, str):
        match = _TEXT.fullmatch(duration)
        found = float(match[1]) * _UNITS[match[2]] if match else None
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        found = float(duration)
    if found is None or not math.isfinite(found) or found < 0 or (positive and found == 0):
        raise InvalidInput(f"{name}={duration!r} is not a duration.", 'Give seconds, or text such as "90s", "10m".')
    return found
