"""One-step and ten-step runs, cold and all-hit, beside the same functions called bare: CPU seconds of the process.

Every process is new. The store exists before; a cold run finds no answer in the cache, an all-hit run finds each.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measure import cpu_seconds, python, show

CASE = str(Path(__file__).with_name("cases") / "chain.py")
ROUNDS = 5
LONG = 110  # steps of the run that tells what a further step costs


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as home:
        figures = measured(home)
    bare, floor = figures["bare"], figures["sqlalchemy"]
    further = (figures[f"{LONG} cold"] - figures["10 cold"]) / (LONG - 10)
    rows = [
        ("the functions, bare", f"{bare:.3f} s", ""),
        ("import sqlalchemy alone", f"{floor:.3f} s", "the floor under every run that is journaled"),
        _row("1 step, cold", figures["1 cold"], figures, "target 0.35 s"),
        _row("10 steps, cold", figures["10 cold"], figures, ""),
        _row("10 steps, all hit", figures["10 hit"], figures, "target 0.35 s"),
        ("each further inline step, journaled", f"{further * 1000:.2f} ms", "target 3 ms"),
        _row("10 steps, cold, process executor", figures["10 process"], figures, "2 children included"),
    ]
    show("Pipelines, CPU of the process (median)", rows)


def _row(name: str, figure: float, figures: dict[str, float], note: str) -> tuple[str, str, str]:
    beside = f"{figure / figures['bare']:.0f} x bare, {figure / figures['sqlalchemy']:.2f} x import sqlalchemy"
    return name, f"{figure:.3f} s", f"{beside}; {note}" if note else beside


def measured(home: str) -> dict[str, float]:
    """Return the median CPU seconds of each case; the cases take turns, so that a drifting machine hits all alike."""
    starts = itertools.count(1_000_000, 1_000)
    hit = str(next(starts))

    def command(kind: str, count: int, *, start: str = "", executor: str = "inline") -> Sequence[str]:
        return python(CASE, kind, str(count), home, start or str(next(starts)), executor)

    cases: dict[str, Callable[[], Sequence[str]]] = {
        "bare": lambda: command("bare", 10),
        "sqlalchemy": lambda: python("-c", "import sqlalchemy"),
        "1 cold": lambda: command("run", 1),
        "10 cold": lambda: command("run", 10),
        "10 hit": lambda: command("run", 10, start=hit),
        f"{LONG} cold": lambda: command("run", LONG),
        "10 process": lambda: command("run", 10, executor="process"),
    }
    seen: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(ROUNDS + 1):
        for name, make in cases.items():
            seconds = cpu_seconds(make())
            if turn:
                seen[name].append(seconds)
    return {name: statistics.median(values) for name, values in seen.items()}


if __name__ == "__main__":
    main()
