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
    """Tick each loop every `seconds` until `stop` is set; a loop that trains or fails keeps no other one waiting.

    The first loop is ticked in this thread, where a step can be interrupted; each further one in a thread of its own.
    """
    turns = [Turn(Ticker(store, loop, executor), seconds) for loop in loops]
    threads = [
        threading.Thread(target=_keep_turning, args=(turn, stop), name=f"tidewheel-{turn.ticker.loop.model}")
        for turn in turns[1:]
    ]
    for thread in threads:
        thread.start()
    try:
        _keep_turning(turns[0] if turns else None, stop, store, seconds)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _keep_turning(turn: Turn | None, stop: threading.Event, store: Store | None = None, seconds: float = 1.0) -> None:
    while not stop.is_set():
        if turn is not None:
            turn.take()
        if store is not None and store.sinks:
            _tell(store)
        stop.wait(max(turn.due - time.monotonic(), 0.0) if turn is not None else seconds)


def _tell(store: Store) -> None:
    """Send what the outbox holds; a receiver that is out of reach is tried again at a later turn."""
    try:
        store.tell()
    except TidewheelError as error:
        logger.warning("the outbox cannot be sent: %s", error)
