"""Kill the conductor at its commits, let many tick at once: one cause, one retraining, each label once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def play(orchard: ModuleType, *words: object) -> list[Any]:
    """Run the orchard as a program and return what it tells."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, str(orchard.__file__), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(told: dict[str, Any]) -> None:
    """Two retrainings in all, the second one on trial, and every row once."""
    steps = told.pop("steps")
    assert 2 <= steps <= 3  # a step may be begun again when its process dies before it is committed
    assert told == {
        "busy": False,
        "labelled": 60,
        "challenger": 2,
        "counters": {"triggers": 2, "runs": 4, "promotions": 0, "refusals": 0, "rollbacks": 0},
        "rows": 260,
        "versions": 2,
        "runs": ["SUCCEEDED"] * 4,
        "rollouts": 1,
        "passed": 2,
        "failed": 0,
    }


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_a_tick_killed_at_any_commit_is_finished_by_the_next(first: int, tmp_path: Path, orchard: ModuleType) -> None:
    told = play(orchard, "kill", tmp_path, first, 4)
    assert len(told) >= 4  # it was killed several times, each time at a later commit
    for one in told:
        check(one)


@pytest.mark.slow
def test_eight_processes_at_once_start_one_retraining(tmp_path: Path, orchard: ModuleType) -> None:
    trained, told = play(orchard, "crowd", tmp_path, 8)
    assert sum(trained) == 1
    check(told)
