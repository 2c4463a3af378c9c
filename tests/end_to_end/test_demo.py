"""The main job, as a user runs it: real data, real processes, real HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DATA = Path(__file__).parents[3] / "shared" / "data"
KEYS = [  # in this order
    "metric",
    "loop",
    "frozen",
    "no_change",
    "triggers",
    "runs",
    "promotions",
    "refusals",
    "rollbacks",
    "failed_requests",
    "seconds",
    "trace",
]


def demo(home: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tidewheel", "demo", "--home", str(home), "--json", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=home.parent,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert list(found) == KEYS
    assert found["failed_requests"] == 0
    for name in ("model", "run", "dataset", "code", "environment"):
        assert found["trace"][name], name
    assert leftovers(home) == []
    return found


def leftovers(home: Path) -> list[str]:
    """Processes that still work on the demo's home."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(home) in words and entry.parent.name != str(os.getpid()):
            found.append(words)
    return found


def test_the_loop_turns_on_handwritten_digits(tmp_path: Path) -> None:
    found = demo(tmp_path / "home")
    assert found["metric"] == "accuracy"
    assert found["loop"] > found["frozen"] > 0.85
    assert found["no_change"] < 0.2
    assert found["promotions"] >= 1
    assert found["triggers"] >= 2
    assert found["runs"] >= found["triggers"]


def test_shuffled_labels_are_refused_by_the_gate(tmp_path: Path) -> None:
    found = demo(tmp_path / "home", "--sabotage", "labels")
    assert found["refusals"] >= 1
    assert found["loop"] > 0.85


def test_a_candidate_that_fails_is_rolled_back_and_no_caller_notices(tmp_path: Path) -> None:
    found = demo(tmp_path / "home", "--sabotage", "serving")
    assert found["rollbacks"] >= 1
    assert found["loop"] > 0.85


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bikes", ("--label", "cnt", "--history", "4000", "--drop", "casual,registered")),
        ("electricity", ("--label", "price_up", "--history", "8640")),
    ],
)
def test_the_loop_beats_the_frozen_model_on_a_table(tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{name}.csv is not there; lay the data folder beside the checkout as shared/data")
    found = demo(tmp_path / "home", "--data", str(path), "--time", "event_time", *words)
    if name == "bikes":
        assert found["loop"] <= 0.7 * found["frozen"]
    else:
        assert found["loop"] >= found["frozen"] + 0.02
