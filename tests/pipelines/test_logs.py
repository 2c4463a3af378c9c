"""What a step prints goes to its own log, whatever other threads do meanwhile."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from tidewheel.errors import StorageUnavailable
from tidewheel.pipelines.logs import StepLog, captured, headline, log_file, tail, trace


def test_captured_takes_what_this_thread_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StepLog(tmp_path / "runs" / "a.log") as log, captured(log):
        print("out")
        print("err", file=sys.stderr)
        other = threading.Thread(target=print, args=("another thread",))
        other.start()
        other.join()
    print("after")
    assert (tmp_path / "runs" / "a.log").read_text() == "out\nerr\n"
    assert capsys.readouterr().out == "another thread\nafter\n"


def test_captured_survives_blocks_of_two_threads_that_overlap(tmp_path: Path) -> None:
    before = sys.stdout
    entered, leave = threading.Event(), threading.Event()

    def second() -> None:
        with StepLog(tmp_path / "b.log") as log, captured(log):
            entered.set()
            leave.wait(10)
            print("second")

    with StepLog(tmp_path / "a.log") as log, captured(log):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait(10)
        print("first")
    print("nowhere near a closed log")
    leave.set()
    thread.join()
    assert sys.stdout is before
    assert (tmp_path / "a.log").read_text() == "first\n"
    assert (tmp_path / "b.log").read_text() == "second\n"


def test_a_log_is_made_only_when_something_is_written(tmp_path: Path) -> None:
    with StepLog(tmp_path / "a.log") as log, captured(log):
        pass
    assert not (tmp_path / "a.log").exists()
    assert tail(tmp_path / "a.log") == []


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with StepLog(tmp_path / "file" / "a.log") as log, pytest.raises(StorageUnavailable, match="Free room"):
        log.write("x")


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    path = log_file(tmp_path, "run", "fit")
    with StepLog(path) as log:
        log.write("".join(f"{number}\n" for number in range(30)))
    assert tail(path, 2) == ["28", "29"]


def test_trace_and_headline_name_the_users_line() -> None:
    def breaks() -> None:
        raise ValueError("first line\nsecond line")

    try:
        breaks()
    except ValueError as error:
        found = error
    assert headline(found).startswith("ValueError: first line (test_logs.py, line ")
    assert trace(found).splitlines()[-1] == "second line"
    assert headline(KeyError()) == "KeyError"
