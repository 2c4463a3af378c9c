"""Steps of scripts and notebooks in worker processes: sent by value, once, and digested as the run digests them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = '''
import json
import linecache
import os
import sys
from contextlib import closing
from pathlib import Path

from tidewheel.app import open_store
from tidewheel.errors import StepFailed
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.runs import start_run
from tidewheel.pipelines.step import step
from tidewheel.settings import Settings

CELL = """
class Scale:
    factor = 3

def scaled(x):
    return x * Scale.factor

@step
def in_a_cell(x: int) -> tuple[int, int]:
    if x < 0:
        raise ValueError(x)  # shown with its source
    return scaled(x), os.getpid()
"""
NAME = "/nowhere/cell_1.py"
linecache.cache[NAME] = (len(CELL), None, CELL.splitlines(keepends=True), NAME)
exec(compile(CELL, NAME, "exec"), globals())

ADDED = 2

def plus(x):
    return x + ADDED

@step
def in_the_script(x: int) -> tuple[int, int]:
    return plus(x), os.getpid()

@pipeline
def items(first: int) -> list[list[tuple[int, int]]]:
    numbers = range(first, first + 20)
    return [[(int(a), int(b)) for a, b in each.map(numbers)] for each in (in_the_script, in_a_cell)]

if __name__ == "__main__":
    with closing(open_store(Settings(home=Path(sys.argv[1])))) as store:
        runs = [start_run(store, items, {"first": 0}, executor="process") for _ in range(2)]
        found = [{"states": sorted({str(s.state) for s in run.steps}), "output": run.output} for run in runs]
        try:
            start_run(store, items, {"first": -1}, executor="process")
        except StepFailed as error:
            found.append(str(error))
    print(json.dumps(found))
'''


def _runs(folder: Path) -> list[Any]:
    script = folder / "items.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, folder / "home"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_steps_of_a_script_and_of_a_cell_share_warm_workers_and_are_cached(tmp_path: Path) -> None:
    first, second, failed = _runs(tmp_path)
    (script, cell) = first["output"]
    assert [value for value, _ in script] == [x + 2 for x in range(20)]
    assert [value for value, _ in cell] == [x * 3 for x in range(20)]
    assert len({process for _, process in (*script, *cell)}) <= 8, "a worker for each item"
    assert (first["states"], second["states"]) == (["COMMITTED"], ["CACHED"])
    assert second["output"] == first["output"]
    assert "raise ValueError(x)  # shown with its source" in failed
