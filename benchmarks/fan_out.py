"""A map over many items, new, answered and resumed, and the frames a run holds: `python -m benchmarks.fan_out [ITEMS]`.

CPU seconds of this process per item, with the children of the process executor; memory in frames above the start.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benchmarks.measure import show
from tidewheel.app import open_store
from tidewheel.errors import StepFailed
from tidewheel.pipelines.pipeline import Pipeline, pipeline
from tidewheel.pipelines.runs import list_runs, resume_run, start_run
from tidewheel.pipelines.step import step
from tidewheel.settings import Settings

FRAMES = Path(__file__).parent.parent / "tests" / "pipelines" / "frames_chain.py"
BROKEN = "TIDEWHEEL_BENCHMARK_BROKEN"


@step
def grown(x: int) -> int:
    """Cost nothing, and fail at every thousandth item while the variable says so."""
    if x % 1_000 == 999 and os.environ.get(BROKEN):
        raise ValueError(f"item {x}")
    return x + 1


@pipeline
def fan_out(count: int, start: int) -> int:
    """Map."""
    return len(grown.map(range(start, start + count)))


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as home:
        rows = [(name, f"{seconds / count * 1000:.2f} ms", note) for name, seconds, note in _maps(home, count)]
    with tempfile.TemporaryDirectory() as home:
        quick = os.environ | {"_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0"}
        command = [sys.executable, str(FRAMES), home, "100", "10"]
        held = subprocess.run(command, capture_output=True, text=True, check=True, env=quick).stdout
    rows.append(("ten frames of 100 MB in a chain", f"{float(held):.2f} frames", "target 2, and what encoding needs"))
    show(f"A map over {count} items: CPU per item; memory of a chain of frames", rows)


def _maps(home: str, count: int) -> list[tuple[str, float, str]]:
    store = open_store(Settings(home=Path(home)))

    def run(start: int, executor: str = "inline", what: Pipeline[..., int] = fan_out) -> Callable[[], object]:
        return lambda: start_run(store, what, {"count": count, "start": start}, executor=executor)

    found = [
        ("inline, new", _seconds(run(0)), "target 5 ms"),
        ("inline, answered by the cache", _seconds(run(0)), ""),
        ("process executor, steps of this script", _seconds(run(count, "process")), "target 5 ms, children included"),
        (
            "process executor, steps of a module",
            _seconds(run(3 * count, "process", import_module("benchmarks.fan_out").fan_out)),
            "target 5 ms, children included",
        ),
    ]
    os.environ[BROKEN] = "1"
    try:
        run(2 * count)()
    except StepFailed:
        failed = list_runs(store)[0].id
    del os.environ[BROKEN]
    found.append(
        ("resumed where one in a thousand had failed", _seconds(lambda: resume_run(store, failed, fan_out)), "")
    )
    store.close()
    return found


def _seconds(act: Callable[[], object]) -> float:
    before = time.process_time() + _children()
    act()
    return time.process_time() + _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
