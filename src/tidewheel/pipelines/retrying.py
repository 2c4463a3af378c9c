"""When a call is tried again, and after which pause."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tidewheel.pipelines.options import StepOptions

_LONGEST_PAUSE = 3600.0  # seconds; the pause between tries doubles up to here
_ENDED = {"timeout": TimeoutError, "killed": ChildProcessError}  # what an end from outside counts as


def worth_retrying(options: StepOptions, kind: str, types: Sequence[str]) -> bool:
    """Say whether a failure is one that the step wants to be tried again after.

    `kind` and `types` are those of the failure: an error counts by its class and its bases, by name, because it may
    have been raised in another process; a timeout counts as TimeoutError, a process that died as ChildProcessError.

    >>> worth_retrying(StepOptions(retry_on=(OSError,)), "raised", ["builtins.ConnectionError", "builtins.OSError"])
    True
    >>> worth_retrying(StepOptions(retry_on=(TimeoutError,)), "killed", ())
    False
    """
    if kind in ("unusable", "storage"):
        return False
    if kind in _ENDED:
        return issubclass(_ENDED[kind], options.retry_on)
    return any(f"{wanted.__module__}.{wanted.__qualname__}" in types for wanted in options.retry_on)


def pause_before(options: StepOptions, failures: int, call_id: str) -> float:
    """Return the seconds before the next try, after so many failed ones.

    Doubled each time up to an hour, and longer or shorter by a share of at most `jitter`. The share is drawn from the
    id of the call, so that it is the same whoever asks: BLAKE2b of the id and the number of failures, as a fraction.

    >>> pause_before(StepOptions(backoff=2.0, jitter=0.0), 3, "id")
    8.0
    """
    drawn = hashlib.blake2b(f"{call_id}/{failures}".encode(), digest_size=8).digest()
    spread = 2 * int.from_bytes(drawn, "big") / 2**64 - 1
    pause = min(options.backoff * 2.0 ** min(failures - 1, 64), _LONGEST_PAUSE)
    return pause * (1 + options.jitter * spread)
