"""Passes frames from step to step and prints how many of them the process held at once: `python frames_chain.py HOME`.

Memory is what the process has resident, at its worst moment, above what it had before the run.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl

from tidewheel.app import open_store
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.runs import start_run
from tidewheel.pipelines.step import step
from tidewheel.settings import Settings

COLUMNS = 10


@step
def first(megabytes: int, seed: int) -> pl.DataFrame:
    """Make a frame that hardly compresses."""
    rows = megabytes * 1_000_000 // (8 * COLUMNS)
    noise = np.random.default_rng(seed)
    return pl.DataFrame({f"c{place}": noise.random(rows) for place in range(COLUMNS)})


@step
def following(frame: pl.DataFrame, number: int) -> pl.DataFrame:
    """Give another frame of the same size."""
    return frame.select(pl.all() + number)


@pipeline
def chain(megabytes: int, length: int, seed: int = 0) -> int:
    """Pass frames on; all their handles live to the end."""
    frames = [first(megabytes, seed)]
    for number in range(1, length):
        frames.append(following(frames[-1], number))
    return len(frames)


class Watch:
    """Looks at the largest resident size all the time: each step sets the kernel's mark back to measure itself."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> int:
        """Return the largest size that was seen, in bytes."""
        self._ended.set()
        self._thread.join()
        return self.peak

    def _look(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(0.005)
            self.peak = max(self.peak, resident("VmHWM"))


def resident(name: str) -> int:
    """Return a size that the kernel tells of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Warm up with small frames, then measure with large ones."""
    home, megabytes, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    store = open_store(Settings(home=Path(home)))
    start_run(store, chain, {"megabytes": 1, "length": 3})
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    watch = Watch()
    start_run(store, chain, {"megabytes": megabytes, "length": length, "seed": 1})
    print((watch.close() - before) / (megabytes * 1_000_000))


if __name__ == "__main__":
    main()
