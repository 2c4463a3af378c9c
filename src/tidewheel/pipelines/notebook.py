"""Show a run while it goes on, in the notebook that started it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from tidewheel.pipelines.follow import Follower
from tidewheel.pipelines.html import follower_html
from tidewheel.pipelines.records import RunEvent, silent

PAUSE = 0.25  # seconds between two drawings; a run may tell thousands of things a second


def notebook_watcher() -> Callable[[RunEvent], None]:
    """Return what shows the events of a run as a live table in a notebook; elsewhere what shows nothing."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    if shell is None or getattr(shell, "kernel", None) is None:
        return silent
    return _Live()


class _Live:
    """Draws the table anew when something happened, a few times a second at most, and at the end."""

    def __init__(self) -> None:
        self._follower = Follower()
        self._display: Any = None
        self._drawn = 0.0

    def __call__(self, event: RunEvent) -> None:
        self._follower(event)
        if self._follower.over or time.monotonic() - self._drawn >= PAUSE:
            self._draw()

    def _draw(self) -> None:
        screen: Any = import_module("IPython.display")
        table = screen.HTML(follower_html(self._follower, datetime.now(UTC)))
        if self._display is None:
            self._display = screen.display(table, display_id=True)
        else:
            self._display.update(table)
        self._drawn = time.monotonic()
