"""One owner per store, children restarted, all ended with the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tidewheel.errors import AlreadyRunning
from tidewheel.supervisor import Service, only_one, supervise

SLEEPER = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
ORPHAN = (
    "import time; from tidewheel.supervisor import die_with_parent; die_with_parent();"
    "import os; print(os.getpid(), flush=True); time.sleep(60)"
)
PARENT = """
import pathlib, sys, threading
from tidewheel.supervisor import Service, supervise
service = Service(name="child", command=(sys.executable, "-c", {code!r}))
supervise([service], log_folder=pathlib.Path({folder!r}), stop=threading.Event(), on_change=lambda name, what: None)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("what was waited for did not happen")
        time.sleep(0.02)


def pids(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"


def test_a_second_up_on_the_same_store_is_refused_with_the_owner(tmp_path: Path) -> None:
    code = (
        "import pathlib, time; from tidewheel.supervisor import only_one\n"
        f"with only_one(pathlib.Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(AlreadyRunning, match=str(owner.pid)), only_one(tmp_path):
            pass
        owner.kill()
        owner.wait()
        with only_one(tmp_path):  # the kernel gave the dead owner's lock back
            assert (tmp_path / "locks" / "up.pid").read_text() == str(os.getpid())


def test_a_killed_child_is_started_again_and_all_end_with_stop(tmp_path: Path) -> None:
    stop, told = threading.Event(), []
    service = Service(name="child", command=(sys.executable, "-c", SLEEPER))
    thread = threading.Thread(
        target=supervise,
        args=([service],),
        kwargs={"log_folder": tmp_path, "stop": stop, "on_change": lambda name, what: told.append(what)},
    )
    thread.start()
    log = tmp_path / "child.log"
    wait_for(lambda: len(pids(log)) == 1)
    os.kill(pids(log)[0], signal.SIGKILL)
    wait_for(lambda: len(pids(log)) == 2)
    stop.set()
    thread.join(20)
    assert told == ["started", "died with -9", "restarted"]
    assert not any(alive(pid) for pid in pids(log))


def test_children_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    program = PARENT.format(code=ORPHAN, folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        log = tmp_path / "child.log"
        wait_for(lambda: len(pids(log)) == 1)
        parent.kill()
    wait_for(lambda: not alive(pids(log)[0]))
