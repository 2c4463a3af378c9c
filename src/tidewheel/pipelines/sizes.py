"""Sizes of memory as people write them."""

from __future__ import annotations

import math
import re

from tidewheel.errors import InvalidInput

_POWERS = "kmgtp"
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?))?b?\s*", re.IGNORECASE)


def size_in_bytes(size: float | str, name: str) -> int:
    """Return a size in whole bytes, rounded up; text is a number with B, KB, MB, GB (1000) or KiB, MiB, GiB (1024).

    >>> size_in_bytes("2GiB", "memory"), size_in_bytes("1.5 MB", "memory"), size_in_bytes(512, "memory")
    (2147483648, 1500000, 512)

    Raises InvalidInput that names the option for anything else, for negative ones and for zero.
    """
    found: float | None = None
    if isinstance(size, str):
        match = _TEXT.fullmatch(size)
        if match:
            power = _POWERS.index(match[2].lower()) + 1 if match[2] else 0
            found = float(match[1]) * (1024 if match[3] else 1000) ** power
    elif isinstance(size, int | float) and not isinstance(size, bool):
        found = float(size)
    if found is None or not math.isfinite(found) or found <= 0:
        raise InvalidInput(f"{name}={size!r} is not a size.", 'Give bytes, or text such as "512MiB", "2GiB", "16GB".')
    return math.ceil(found)
