"""CPU to profile a million rows of 20 columns and compare it with a baseline, beside `describe` of Polars, in turn."""

from __future__ import annotations

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import statistics
import time
from collections.abc import Callable

import msgspec
import numpy as np
import polars as pl

from benchmarks.measure import show
from tidewheel.stats.column import comparison_cells, ordered_cells
from tidewheel.stats.divergence import js, ks_from_counts, psi
from tidewheel.stats.profile import Profile, count_window, merge, profile_frame

ROWS = 1_000_000
WINDOW = 300


def table(seed: int, rows: int = ROWS) -> pl.DataFrame:
    """Return 8 normal, 4 lognormal, 3 whole-number and 5 text columns of 2 to 200 values."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {f"normal{i}": rng.normal(size=rows) for i in range(8)}
    columns |= {f"lognormal{i}": rng.lognormal(size=rows) for i in range(4)}
    columns |= {f"count{i}": rng.poisson(5, size=rows) for i in range(3)}
    for size in (2, 5, 12, 50, 200):
        columns[f"text{size}"] = np.array([f"v{i}" for i in range(size)])[rng.integers(0, size, rows)]
    return pl.DataFrame(columns)


def compare(a: Profile, b: Profile) -> list[float]:
    """Return every divergence of every column of two profiles on the same edges."""
    found = []
    for name, column in a.columns.items():
        reference, current = comparison_cells(column), comparison_cells(column, b.columns[name].cells)
        found += [psi(reference, current), js(reference, current)]
        found.append(ks_from_counts(ordered_cells(column), ordered_cells(column, b.columns[name].cells)))
    return found


def cpu(call: Callable[[], object]) -> float:
    """Return CPU seconds of one call, all threads of the process."""
    before = time.process_time()
    call()
    return time.process_time() - before


def main() -> None:
    """Print the figures."""
    frame = table(1)
    baseline = profile_frame(table(0))
    current = profile_frame(frame, edges_from=baseline)
    window = frame.head(WINDOW).to_dict(as_series=False)
    calls: dict[str, Callable[[], object]] = {
        "describe": frame.describe,
        "profile": lambda: profile_frame(frame, edges_from=baseline),
        "compare": lambda: compare(baseline, current),
        "merge": lambda: merge(baseline, current),
        "window": lambda: count_window(baseline, window),
    }
    taken: dict[str, list[float]] = {name: [cpu(call) for _ in range(1)] for name, call in calls.items()}
    for _ in range(5):
        for name, call in calls.items():
            taken[name].append(cpu(call))
    seconds = {name: statistics.median(values[1:]) for name, values in taken.items()}
    both = seconds["profile"] + seconds["compare"]
    size = len(msgspec.json.encode(baseline)) / len(baseline.columns)
    show(
        f"profile: {ROWS:,} rows x {frame.width} columns, CPU seconds, median of 5 in turn",
        [
            ("profile and compare", f"{both:.3f} s", f"{both / seconds['describe']:.2f} x describe; target 1 s"),
            ("polars describe (no histogram, no distinct)", f"{seconds['describe']:.3f} s", "the reference"),
            ("compare two profiles: PSI, JS and KS each", f"{1e3 * seconds['compare']:.2f} ms", "no row is touched"),
            ("merge two profiles", f"{1e3 * seconds['merge']:.2f} ms", ""),
            (f"count a window of {WINDOW} plain rows", f"{1e3 * seconds['window']:.2f} ms", "on baseline edges"),
            ("size of a profile as JSON", f"{size:,.0f} B", "per column"),
        ],
    )


if __name__ == "__main__":
    main()
