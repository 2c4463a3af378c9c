"""Wait for storage that does not answer, with growing pauses, up to a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tidewheel.errors import StorageUnavailable

T = TypeVar("T")
_FIRST, _LONGEST = 0.1, 5.0  # seconds between two tries


def nobody(text: str) -> None:
    """Tell nobody that something waits."""


class Patience:
    """Repeats what fails because the storage is full or does not answer; other errors pass through at once.

    `seconds` is how long it waits each time; 0 means not at all. Once it has waited in vain it does not wait again
    before something has worked: a run that ends for that reason does not wait a second time to say so.
    """

    def __init__(
        self,
        seconds: float,
        tell: Callable[[str], None] = nobody,
        *,
        pause: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tell = tell
        self._seconds = seconds
        self._pause = pause
        self._now = now
        self._spent = False

    def keep(self, act: Callable[[], T]) -> T:
        """Do something that may be done again after StorageUnavailable; raises the last one when patience ends."""
        try:
            done = act()
        except StorageUnavailable as error:
            if not error.passing or self._seconds <= 0 or self._spent:
                raise
            done = self._again(act, error)
        self._spent = False
        return done

    def _again(self, act: Callable[[], T], error: StorageUnavailable) -> T:
        began, pause = self._now(), _FIRST
        self.tell(f"{error.what} Waiting for up to {self._seconds:g} s.")
        while (left := began + self._seconds - self._now()) > 0:
            self._pause(min(pause, left))
            pause = min(2 * pause, _LONGEST)
            try:
                done = act()
            except StorageUnavailable as later:
                if not later.passing:
                    raise
                error = later
                continue
            self.tell(f"The storage answers again after {self._now() - began:.1f} s.")
            return done
        self._spent = True
        raise StorageUnavailable(
            f"{error.what} It was waited for {self._seconds:g} s (storage_patience).",
            f"{error.mend} What was recorded is kept: go on with tidewheel resume.",
            passing=True,
        ) from error
