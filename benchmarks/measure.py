"""CPU of whole processes, measured in turn, so that a ratio holds when the machine's speed drifts."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

ONE_THREAD = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def python(*words: str) -> list[str]:
    """Return an argv for this interpreter."""
    return [sys.executable, *words]


def cpu_seconds(command: Sequence[str], *, cwd: str | None = None, environment: dict[str, str] | None = None) -> float:
    """Return user plus system CPU seconds of a process and its children; raises if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | ONE_THREAD | (environment or {}), capture_output=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr.decode()[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_turn(commands: dict[str, Sequence[str]], *, runs: int = 5, cwd: str | None = None) -> dict[str, float]:
    """Return each command's median CPU seconds over runs taken in turn, after one that is not counted."""
    for command in commands.values():
        cpu_seconds(command, cwd=cwd)
    figures: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            figures[name].append(cpu_seconds(command, cwd=cwd))
    return {name: statistics.median(values) for name, values in figures.items()}


def show(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Print a small table: what, figure, beside what."""
    print(f"\n{title}")
    for what, figure, beside in rows:
        print(f"  {what:<46} {figure:>14}   {beside}")
