"""A chain of trivial steps, called bare or as a run: `python chain.py bare|run COUNT HOME START [EXECUTOR]`."""

from __future__ import annotations

import sys


def bare(count: int, start: int) -> int:
    """Call the same function without anything around it."""
    x = start
    for _ in range(count):
        x = x + 1
    return x


def run(count: int, start: int, home: str, executor: str) -> int:
    """Start a run in the store of a home."""
    from pathlib import Path

    from tidewheel.app import open_store
    from tidewheel.pipelines.pipeline import pipeline
    from tidewheel.pipelines.runs import start_run
    from tidewheel.pipelines.step import step
    from tidewheel.settings import Settings

    @step
    def grown(x: int) -> int:
        return x + 1

    @pipeline
    def chain(count: int, start: int) -> int:
        x = start
        for _ in range(count):
            x = grown(x)
        return x

    store = open_store(Settings(home=Path(home)))
    found: int = start_run(store, chain, {"count": count, "start": start}, executor=executor).output
    return found


if __name__ == "__main__":
    kind, number, place, first, *rest = sys.argv[1:]
    if kind == "bare":
        print(bare(int(number), int(first)))
    else:
        print(run(int(number), int(first), place, rest[0] if rest else "inline"))
