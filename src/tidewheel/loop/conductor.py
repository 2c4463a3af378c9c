"""Tick some loops until stopped; one that fails says so and is tried again, the others go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidewheel.errors import TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.loop.loop import Loop
from tidewheel.loop.tick import Ticker

logger = logging.getLogger("tidewheel.loop")
MAX_PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class Turn:
    """When a loop is ticked next."""

    ticker: Ticker  # of the loop
    seconds: float  # between two ticks
    failures: int = 0  # in a row
    due: float = 0.0  # monotonic seconds

    def take(self, now: Callable[[], float] = time.monotonic) -> None:
        """Tick if it is time; after a failure the pause doubles, up to half a minute."""
        if now() < self.due:
            return
        try:
            self.ticker.tick()
            self.failures = 0
        except TidewheelError as error:
            self.failures += 1
            logger.warning("%s: %s", self.ticker.loop.model, error)
        except Exception:  # what nobody foresaw in one loop must not stop the others
            self.failures += 1
            logger.exception("%s: the tick failed.", self.ticker.loop.model)
        pause = self.seconds if not self.failures else min(max(self.seconds, 0.1) * 2**self.failures, MAX_PAUSE_SECONDS)
        self.due = now() + pause


def conduct(
    store: Store, loops: Sequence[Loop], *, stop: threading.Event, seconds: float = 1.0, executor: str = "inline"
) -> None:
    """Tick each loop every `seconds` until `stop` is set; a loop that fails waits longer, and alone."""
    turns = [Turn(Ticker(store, loop, executor), seconds) for loop in loops]
    while not stop.is_set():
        for turn in turns:
            turn.take()
        if store.sinks:
            _tell(store)
        stop.wait(max(min(turn.due for turn in turns) - time.monotonic(), 0.0) if turns else seconds)


def _tell(store: Store) -> None:
    """Send what the outbox holds; a receiver that is out of reach is tried again at a later turn."""
    try:
        store.tell()
    except TidewheelError as error:
        logger.warning("the outbox cannot be sent: %s", error)
