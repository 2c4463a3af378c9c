"""Live progress of a run: a table in place on a terminal, a plain line per event elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidewheel.pipelines.records import RunEvent

PAUSE = 0.1  # seconds between two drawings; a run may tell thousands of things a second
STYLES = {
    "SUCCEEDED": "green", "COMMITTED": "green", "CACHED": "cyan", "FAILED": "red", "LOST": "red", "RUNNING": "yellow",
    "RETRY_AT": "yellow",
}  # fmt: skip


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[RunEvent], None]]:
    """Give a callback that shows each event of a run on standard error; `quiet` shows nothing.

    It may be called from several threads. Whatever becomes of the screen, the run goes on.
    """
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _live() as show:
            yield show
    else:
        yield _Lines()


class _Lines:
    """Writes a line per event; a reader who goes away (`2>&1 | head`) is let go."""

    def __init__(self) -> None:
        self._gone = False
        self._runs: set[str] = set()

    def __call__(self, event: RunEvent) -> None:
        if self._gone:
            return
        self._runs.add(event.run_id)
        run = f"{event.run_id[-12:]} " if len(self._runs) > 1 else ""
        detail = f" {event.detail.splitlines()[0]}" if event.detail else ""
        text = f"{event.state.lower():>10}  {run}{event.step or event.pipeline}{detail}"
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:
            self._gone = True


@contextmanager
def _live() -> Iterator[Callable[[RunEvent], None]]:
    from rich.console import Console
    from rich.live import Live

    from tidewheel.pipelines.follow import Follower

    followers: dict[str, Follower] = {}
    lock = threading.Lock()
    drawn = 0.0

    def show(event: RunEvent) -> None:
        nonlocal drawn
        with lock:
            followers.setdefault(event.run_id, Follower())(event)
            if time.monotonic() - drawn < PAUSE and event.step:
                return
            drawn = time.monotonic()
            try:
                live.update(_table(list(followers.values())), refresh=True)
            except OSError:
                live.auto_refresh = False

    with Live(console=Console(stderr=True, highlight=False), auto_refresh=False, vertical_overflow="ellipsis") as live:
        try:
            yield show
        finally:
            with lock:
                live.update(_table(list(followers.values())), refresh=True)


def _table(followers: list[Any]) -> Any:
    """Draw one run call by call, several runs (of a sweep) with a line each."""
    from rich.table import Table
    from rich.text import Text

    now = datetime.now(UTC)
    drawn = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        drawn.add_column(overflow="ellipsis", no_wrap=True)

    def add(name: str, state: str, seconds: float | None, detail: str) -> None:
        took = "" if seconds is None else f"{seconds:.1f} s"
        drawn.add_row(Text(name), Text(state.lower(), style=STYLES.get(state, "dim")), took, Text(detail, style="dim"))

    for follower in followers:
        age = (now - follower.begun).total_seconds() if follower.begun else None
        add(f"{follower.pipeline} {follower.run_id[-12:]}", follower.state, age, follower.detail or follower.total())
        if len(followers) == 1:
            for line in follower.lines(now):
                add(f"  {line.name}", line.state, line.seconds, line.counts or line.detail)
    return drawn
