"""Steps for the conformance suite of executors, which any worker can import: nothing but Python is needed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.errors import StorageUnavailable
from tidewheel.pipelines.active import step_context
from tidewheel.pipelines.secrets import secret
from tidewheel.pipelines.step import step

PATIENCE = 120.0  # seconds within which a healthy executor has answered, on a busy machine too

# Starts a grandchild that leaves the session and whose own parent ends at once, as daemons do; it writes down its id.
_DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        with open(sys.argv[1], "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(1200)
    os._exit(0)
"""


class NoRoom(FolderBlobs):
    """A folder of blobs without room for new ones."""

    def put(self, data: bytes) -> str:
        """Refuse."""
        raise StorageUnavailable(f"{len(data)} bytes cannot be kept in {self.folder}: no room.", "Free room.")


class Unshippable(Exception):
    """An error that neither can be pickled nor says what it is."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def __str__(self) -> str:
        raise RuntimeError("speechless")


@step
def double(x: int) -> int:
    """Say what is done, and do it."""
    print(f"doubling {x} as {step_context().idempotency_key}")  # noqa: T201 - the executor keeps it in the log
    return 2 * x


@step
def divide(items: list[int], at: int) -> tuple[list[int], int]:
    """Return two artifacts."""
    return items[:at], len(items)


@step
def lengthen(items: list[int]) -> list[int]:
    """Change the input in place, as careless code does."""
    items.append(99)
    return items


@step
def stumble(how: str) -> int:
    """Fail in one way or another."""
    if how == "leave":
        sys.exit(3)
    if how == "unshippable":
        raise Unshippable
    raise ValueError("no such tide")


@step
def flood(size: int) -> bytes:
    """Return more than fits into a row."""
    return os.urandom(size)


@step
def measure(data: bytes) -> int:
    """Return the length of what came."""
    return len(data)


@step
def take_turns(book: str) -> int:
    """Write down when it begins and ends; be there for a moment."""
    _note(book, "+")
    time.sleep(0.02)
    _note(book, "-")
    return os.getpid()


@step(variables={"TIDE": "spring"}, secrets=("HARBOUR_KEY",))
def tell() -> tuple[str, str]:
    """Return a variable and print a secret, which nobody should."""
    print(f"the key is {secret('HARBOUR_KEY')}")  # noqa: T201
    return os.environ["TIDE"], str(len(os.environ["HARBOUR_KEY"]))


@step
def outlive(marker: str) -> int:
    """Leave its process id and go on for longer than anyone waits."""
    _note(marker, f"{os.getpid()}\n")
    time.sleep(10 * PATIENCE)
    return 1


@step
def found_a_family(marker: str) -> int:
    """Start a daemon that hides, ignore SIGTERM, and go on for longer than anyone waits."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.run([sys.executable, "-c", _DAEMON, marker], check=True)  # noqa: S603 - this very Python
    while not Path(marker).exists():
        time.sleep(0.01)
    _note(marker, f"{os.getpid()}\n")
    time.sleep(10 * PATIENCE)
    return 1


@step
def die() -> int:
    """End the own process as the kernel does for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@step
def vanish(code: int) -> int:
    """End the own process without a word."""
    os._exit(code)


@step(memory="200MiB")
def overeat(size: int) -> int:
    """Hold more than was asked for, for longer than anyone waits."""
    held = bytearray(os.urandom(1024)) * (size // 1024)
    time.sleep(10 * PATIENCE)
    return len(held)


@step(cpus=2)
def count_threads() -> str:
    """Return how many threads libraries are told to use."""
    return os.environ.get("OMP_NUM_THREADS", "")


@step
def work_until(stop: str) -> int:
    """Compute until a file appears."""
    total = 0
    while not Path(stop).exists():
        total += sum(range(10_000))
        time.sleep(0.001)
    return total


def alive(pid: int) -> bool:
    """Say whether a process is there and not just waiting to be buried."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return not Path("/proc/self").exists()


def _note(book: str, text: str) -> None:
    with Path(book).open("a") as file:
        file.write(text)
