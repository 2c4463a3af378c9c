"""End a process whose event loop hangs in a call: a scoring call in C cannot be interrupted.

The loop says now and then that it lives. When it has not for long, a thread answers 503 to everybody who waits and
ends the process, so that whoever keeps it alive starts another. A call that holds the interpreter's lock stops the
thread as well; then the parent of the workers, who no longer hears from the worker, kills it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable

from tidewheel.errors import NotReady
from tidewheel.serving.response import error_response

BEAT_SECONDS = 0.25
HUNG = 75  # exit code of a process that was given up: EX_TEMPFAIL

logger = logging.getLogger("tidewheel.serving")


class Watchdog:
    """Watches one event loop; `give_up` is called in a thread with the bytes that everybody who waits is to be sent."""

    def __init__(
        self,
        seconds: float,
        give_up: Callable[[bytes], None],
        *,
        beat: Callable[[], None] = lambda: None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._looks = max(round(seconds / BEAT_SECONDS), 2)
        self._seconds = seconds
        self._give_up = give_up
        self._beat = beat
        self._end = end
        self._beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tidewheel-watchdog", daemon=True)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; called in the loop."""
        self._tick(asyncio.get_running_loop())
        self._thread.start()

    def stop(self) -> None:
        """End; called in the loop."""
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats += 1
        self._beat()
        self._timer = loop.call_later(BEAT_SECONDS, self._tick, loop)

    def _watch(self) -> None:
        # Looks are counted, not seconds: a process that was stopped and goes on has missed both, beats and looks.
        last, missed = self._beats, 0
        while not self._stop.wait(BEAT_SECONDS):
            missed = missed + 1 if self._beats == last else 0
            last = self._beats
            if missed >= self._looks:
                logger.error("a call has not returned for %.1f seconds; this process ends", self._seconds)
                self._give_up(hung_answer(self._seconds))
                self._end(HUNG)
                return


def hung_answer(seconds: float) -> bytes:
    """Return the bytes of the 503 that those get who wait for a call that hangs."""
    error = NotReady(
        f"The model did not answer within {seconds:g} seconds.", "Try again: the server has started itself anew."
    )
    response = error_response(error)
    head = b"".join(b"%s: %s\r\n" % each for each in response.headers)
    length = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(response.body)
    return b"HTTP/1.1 503 Service Unavailable\r\n" + head + length + response.body
