"""Live progress of a run: one line per step, in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewheel.pipelines.runs import RunEvent


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[RunEvent], None]]:
    """Give a callback that shows each event of a run on standard error; `quiet` shows nothing."""
    if quiet:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    marks = {"COMMITTED": "[green]done[/green]", "CACHED": "[cyan]cached[/cyan]", "FAILED": "[red]failed[/red]"}

    def show(event: RunEvent) -> None:
        mark = marks.get(event.state, f"[dim]{event.state.lower()}[/dim]")
        detail = f" [dim]{escape(event.detail.splitlines()[0])}[/dim]" if event.detail else ""
        console.print(f"  {mark:>24}  {event.step or event.pipeline}{detail}")

    yield show
    sys.stderr.flush()
