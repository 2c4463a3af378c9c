"""The demo on the screen: calm, one panel that updates in place; plain lines where there is no terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group

SHOWN_DECISIONS = 8
PLAIN_EVERY_SECONDS = 5.0


@dataclass(slots=True, kw_only=True)
class Picture:
    """What the view shows; the demo changes it, the view draws it."""

    title: str  # what turns
    metric: str  # accuracy or rmse
    total: int  # rows of the stream
    done: int = 0  # rows answered
    doing: str = ""  # what happens now
    champion: str = ""  # version that answers
    challenger: str = ""  # version on trial with its share
    loop: float = float("nan")  # recent score of the loop
    frozen: float = float("nan")  # recent score of the first champion
    decisions: list[str] = field(default_factory=list)  # newest last

    def decide(self, text: str) -> None:
        """Add a decision to the list."""
        self.decisions.append(f"{self.done:>6,}  {text}")


class Screen:
    """Draws a picture, in place or as lines."""

    def __init__(self, picture: Picture, *, live: bool) -> None:
        self.picture = picture
        self._live = live
        self.update: Callable[[Group], None] = lambda _: None  # redraws the panel on a terminal
        self._said = 0
        self._last = time.monotonic()
        self._doing = ""

    def draw(self) -> None:
        """Show the present state; plain mode prints new decisions, and progress every few seconds."""
        if self._live:
            self.update(_panel(self.picture))
            return
        picture = self.picture
        for text in picture.decisions[self._said :]:
            print(text, file=sys.stderr, flush=True)
        self._said = len(picture.decisions)
        if picture.doing != self._doing or time.monotonic() - self._last > PLAIN_EVERY_SECONDS:
            self._doing, self._last = picture.doing, time.monotonic()
            print(f"{picture.done:>6,}  {picture.doing}{_scores(picture)}", file=sys.stderr, flush=True)


@contextmanager
def screen(picture: Picture) -> Iterator[Screen]:
    """Open the view on standard error, so that standard output stays for the summary and the JSON."""
    if not sys.stderr.isatty():
        yield Screen(picture, live=False)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(_panel(picture), console=Console(stderr=True), refresh_per_second=8, transient=True) as live:
        drawn = Screen(picture, live=True)
        drawn.update = live.update
        yield drawn


def _scores(picture: Picture) -> str:
    if math.isnan(picture.loop):
        return ""
    return f"   recent {picture.metric}: loop {picture.loop:.3f}, frozen {picture.frozen:.3f}"


def _panel(picture: Picture) -> Group:
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    share = picture.done / max(picture.total, 1)
    facts.add_row("now", Text(picture.doing))
    facts.add_row("rows", Text(f"{picture.done:,} of {picture.total:,} ({share:.0%})"))
    facts.add_row("answers", Text(picture.champion or "-"))
    facts.add_row("on trial", Text(picture.challenger or "-"))
    if not math.isnan(picture.loop):
        facts.add_row(f"recent {picture.metric}", Text(f"loop {picture.loop:.3f}   frozen {picture.frozen:.3f}"))
    shown = "\n".join(picture.decisions[-SHOWN_DECISIONS:]) or "no decision yet"
    decisions = Text(shown, style="dim", no_wrap=True, overflow="ellipsis")  # a panel that keeps its height is calm
    bar = ProgressBar(total=max(picture.total, 1), completed=picture.done, width=60)
    return Group(Panel(Group(facts, bar, Text(), decisions), title=picture.title, title_align="left", width=100))
