"""`tidewheel demo` as a user runs it: real processes, real HTTP, real data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
KEYS = {
    "metric", "loop", "frozen", "no_change", "triggers", "runs", "promotions", "refusals", "rollbacks",
    "failed_requests", "seconds", "trace",
}  # fmt: skip


def demo(tmp_path: Path, *words: str) -> tuple[dict[str, Any], str]:
    """Run the demo; return the JSON of its last line, and what it told on the way."""
    command = [sys.executable, "-m", "tidewheel", "demo", "--home", str(tmp_path / "home"), "--json", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=False, env=os.environ | {"COLUMNS": "200"}
    )
    logs = "\n".join(path.read_text()[-2000:] for path in (tmp_path / "home" / "logs").glob("*.log"))
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}\n{logs}"
    return orjson.loads(done.stdout.splitlines()[-1]), done.stderr


def shared(name: str) -> str:
    """Return one of the real tables, or skip; they lie beside a checkout, not in it, so CI cannot have them."""
    path = SHARED / name
    if not path.exists():
        reason = f"{name} is not there; put it into {SHARED} to run this test"
        if os.environ.get("TIDEWHEEL_CI"):
            pytest.xfail(reason)
        pytest.skip(reason)
    return str(path)


def test_digits_are_answered_better_than_by_the_frozen_model(tmp_path: Path) -> None:
    result, told = demo(tmp_path)
    assert set(result) == KEYS
    assert result["metric"] == "accuracy"
    assert result["loop"] > result["frozen"] + 0.004 > 0.85
    assert result["failed_requests"] == 0
    assert min(result["triggers"], result["promotions"]) >= 2
    assert result["runs"] >= result["triggers"]
    assert "drift fired" in told or "decay fired" in told
    trace = result["trace"]
    assert trace["request"] == "digits-1796"
    assert {"model", "run", "dataset", "dataset_digest", "code", "environment", "bundle"} <= set(trace)
    assert all(trace.values())


def test_shuffled_labels_are_refused_by_the_gate(tmp_path: Path) -> None:
    result, told = demo(tmp_path, "--sabotage", "labels")
    assert result["refusals"] >= 1
    assert "shuffled labels: gates refused the candidate" in told
    assert result["loop"] >= result["frozen"]


def test_a_failing_candidate_is_rolled_back_and_no_caller_notices(tmp_path: Path) -> None:
    result, told = demo(tmp_path, "--sabotage", "serving")
    assert result["rollbacks"] >= 1
    assert "it fails more often" in told
    assert result["failed_requests"] == 0
    assert result["loop"] >= result["frozen"]


def test_electricity_is_answered_two_points_better(tmp_path: Path) -> None:
    words = ("--time", "event_time", "--label", "price_up", "--history", "8640")
    result, _ = demo(tmp_path, "--data", shared("electricity.csv"), *words)
    assert result["loop"] >= result["frozen"] + 0.02
    assert result["failed_requests"] == 0


def test_bikes_are_predicted_with_a_third_less_error(tmp_path: Path) -> None:
    words = ("--time", "event_time", "--label", "cnt", "--history", "4000", "--drop", "casual,registered")
    result, _ = demo(tmp_path, "--data", shared("bikes.csv"), *words)
    assert (result["metric"], result["failed_requests"]) == ("rmse", 0)
    assert result["loop"] <= 0.7 * result["frozen"]
