"""What the demo says at its end."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from tidewheel.demo.records import Result
    from tidewheel.demo.stream import Stream
    from tidewheel.settings import Settings


def print_summary(stream: Stream, result: Result, *, settings: Settings, as_json: bool) -> None:
    """Print scores, counts, the trace and where to look further; `as_json` adds one JSON object as the last line."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"\n[bold]{stream.name}[/bold]: {stream.live:,} rows in {result.seconds:.0f} s\n")
    if stream.left_out:
        console.print(f"left out, as nothing can be learned from them: {', '.join(stream.left_out)}\n", soft_wrap=True)
    scores = Table(box=SIMPLE_HEAD, pad_edge=False)
    scores.add_column("who answered")
    scores.add_column(result.metric, justify="right")
    for who, value in (
        ("the loop", result.loop),
        ("the first champion, frozen", result.frozen),
        ("the previous label", result.no_change),
    ):
        scores.add_row(who, f"{value:.4f}")
    console.print(scores)
    console.print(_difference(result))
    console.print(
        f"{result.triggers} triggers, {result.runs} runs, {result.promotions} promotions, "
        f"{result.refusals} refusals, {result.rollbacks} rollbacks, {result.failed_requests} failed requests\n"
    )
    console.print("[bold]behind the last prediction[/bold]")
    for name, value in result.trace.items():
        console.print(f"  {name:<15} {value}", soft_wrap=True)
    console.print("\n[bold]look further[/bold]")
    home = settings.home
    page = f"the page, at http://{settings.web_host}:{settings.web_port}/"
    console.print(f"  tidewheel web --home {home}   {page}", soft_wrap=True)
    for words in (
        f"loop status {stream.name}",
        f"lineage {stream.name}@champion",
        f"models history {stream.name}",
    ):
        console.print(f"  tidewheel {words} --home {home}", soft_wrap=True)
    if as_json:
        print(orjson.dumps(asdict(result)).decode())


def _difference(result: Result) -> str:
    if result.metric == "rmse":
        return f"The loop's error is {1 - result.loop / result.frozen:+.1%} below the frozen model's.".replace("+", "")
    return f"The loop is {100 * (result.loop - result.frozen):+.1f} points over the frozen model."
