"""The words of the command line, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
EVERY_SECOND = """
from tidewheel.triggers import Schedule, event, every, files

often = Schedule(keep_books, on=[every("1s")], name="often", parameters={"due": event("due")})
watched = Schedule(
    keep_books, on=[files("inbox/*.csv", settle=0)], name="watched", parameters={"paths": event("files")}
)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's file in it."""
    shutil.copy(HERE / "schedule_steps.py", tmp_path / "shop.py")
    monkeypatch.setenv("TRIGGERS_BOOK", str(tmp_path / "book.txt"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tidewheel(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tidewheel", *words], check=False, capture_output=True, text=True)


def told(*words: str) -> Any:
    done = tidewheel(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("shop")
def test_triggers_are_listed_looked_at_shown_rearmed_and_forgotten() -> None:
    assert "No trigger yet" in tidewheel("triggers").stdout
    assert {row["name"] for row in told("triggers", "shop.py")} >= {"hourly", "storm/UTC/0"}
    assert [row["name"] for row in told("triggers", "list", "shop.py:hourly")] == ["hourly"]
    (report,) = told("tick", "shop.py:hourly")
    assert report["verdict"] == "quiet"
    assert "- cron(0 * * * * UTC missed=all): counts from now on" in tidewheel("triggers", "show", "hourly").stdout
    done = tidewheel("triggers", "rearm", "hourly", "--since", "2026-01-01T00:30:00+00:00")
    assert "epoch 2" in done.stdout
    fired = told("tick", "shop.py:hourly", "--queue-only")
    assert {each["verdict"] for each in fired} == {"fired"}
    found = {row["name"]: row for row in told("triggers")}
    assert len(found["hourly"]["runs"]) == len(fired)
    assert tidewheel("triggers", "forget", "hourly").returncode == 0
    assert "hourly" not in {row["name"] for row in told("triggers")}


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["triggers", "rearm", "hourly"], "no schedule named 'hourly'"),
        (["triggers", "rearm", "hourly", "--since", "noon"], "not a moment"),
        (["triggers", "rearm", "hourly", "--since", "2026-01-01T00:00:00"], "no time zone"),
        (["triggers", "show", "hourly"], "no schedule named 'hourly'"),
        (["triggers", "forget", "hourly"], "no schedule named 'hourly'"),
        (["triggers", "nowhere.py"], "nowhere.py"),
        (["tick", "shop.py:keep_books"], "not a loop"),
        (["up", "shop.py:BOOK"], "not a loop"),
    ],
)
def test_mistakes_are_told(words: list[str], hint: str) -> None:
    done = tidewheel(*words)
    assert done.returncode == 1
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def running(shop: Path) -> Iterator[subprocess.Popen[str]]:
    """A whole `tidewheel up` of a file that has only schedules."""
    with (shop / "shop.py").open("a") as file:
        file.write(EVERY_SECOND)
    (shop / "inbox").mkdir()
    words = ["up", "shop.py", "--port", "0", "--web-port", "0"]
    process = subprocess.Popen([sys.executable, "-m", "tidewheel", *words], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_up_runs_schedules_until_stopped(running: subprocess.Popen[str], shop: Path) -> None:
    book, patience = shop / "book.txt", threading.Event()

    def noted() -> list[str]:
        return book.read_text().splitlines() if book.exists() else []

    (shop / "inbox" / "a.csv").write_text("1")
    for _ in range(240):
        lines = noted()
        if "a.csv" in lines and len(lines) > 3:
            break
        patience.wait(0.25)
    assert "a.csv" in noted()
    times = [line for line in noted() if line != "a.csv"]
    assert len(times) == len(set(times)) > 1
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait(60) == 0
    assert running.stdout is not None
    assert "scheduler started" in running.stdout.read()
