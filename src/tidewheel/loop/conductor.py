"""Tick some loops until stopped; one that fails says so and is tried again, the others go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from tidewheel.errors import TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.loop.loop import Loop
from tidewheel.loop.tick import Ticker

logger = logging.getLogger("tidewheel.loop")
MAX_PAUSE_SECONDS = 30.0


def conduct(
    store: Store, loops: Sequence[Loop], *, stop: threading.Event, seconds: float = 1.0, executor: str = "inline"
) -> None:
    """Tick each loop every `seconds` until `stop` is set; after a failure the pause doubles, up to half a minute."""
    tickers = [Ticker(store, loop, executor) for loop in loops]
    failures = 0
    while not stop.is_set():
        failed = False
        for ticker in tickers:
            try:
                ticker.tick()
            except TidewheelError as error:
                failed = True
                logger.warning("%s: %s", ticker.loop.model, error)
        failures = failures + 1 if failed else 0
        stop.wait(min(seconds * 2**failures, MAX_PAUSE_SECONDS) if failures else seconds)
