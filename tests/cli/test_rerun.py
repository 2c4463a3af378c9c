"""`tidewheel rerun` and `tidewheel cancel`, as processes: a run is stopped from another one, and run again in part."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROJECT = """
import time
from pathlib import Path
from tidewheel import pipeline, step

@step(cache=False)
def load(book: str) -> int:
    with open(book, "a") as file:
        file.write("load ")
    return 3

@step(on="process")
def fit(rows: int, book: str) -> int:
    with open(book, "a") as file:
        file.write("fit ")
    while not Path(book + ".gate").exists():
        time.sleep(0.01)
    return rows + 1

@pipeline
def flow(book: str) -> int:
    return fit(load(book), book)
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tidewheel", *words]


def tidewheel(*words: str, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(command(*words), cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def read_json(*words: str, cwd: Path) -> Any:
    return json.loads(tidewheel(*words, "--json", cwd=cwd))


@pytest.mark.slow
def test_a_run_is_cancelled_from_another_process_and_run_again(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(PROJECT)
    book = tmp_path / "book"
    book.touch()
    words = command("run", "flow.py:flow", "-p", f"book={book}")
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 60
        while "fit" not in book.read_text():
            assert time.monotonic() < deadline, "the step did not begin"
            time.sleep(0.01)
        (run,) = read_json("runs", cwd=tmp_path)
        cancelled = read_json("cancel", run["id"][-12:], "--reason", "wrong month", cwd=tmp_path)
        assert (cancelled["state"], cancelled["error"]) == ("CANCELLED", "wrong month")
        _, errors = running.communicate(timeout=60)  # though nobody opens the gate
    assert running.returncode == 1
    assert "was taken from this process: it is CANCELLED (wrong month)" in errors
    assert "cannot become CANCELLED" in tidewheel("cancel", run["id"], cwd=tmp_path, code=1)

    Path(f"{book}.gate").touch()
    assert read_json("resume", "flow.py:flow", run["id"], cwd=tmp_path)["state"] == "SUCCEEDED"
    book.write_text("")
    again = read_json("rerun", "flow.py:flow", run["id"], "--from", "fit", cwd=tmp_path)
    assert (again["state"], book.read_text().split()) == ("SUCCEEDED", ["fit"])
    assert again["cause"]["execution_id"] == run["id"]
    told = tidewheel("rerun", "flow.py:flow", run["id"], "--from", "fitt", cwd=tmp_path, code=1)
    assert "no step named 'fitt'" in told
    assert "Did you mean 'fit'?" in told
