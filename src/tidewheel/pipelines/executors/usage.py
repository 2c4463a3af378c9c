"""What a step uses: processor time, memory, input and output, read from the operating system."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tidewheel.pipelines.executors.seam import Usage

_TICKS = os.sysconf("SC_CLK_TCK")
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
_RESET_PEAK = "5"  # what the kernel takes in clear_refs for: forget the peak of resident memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What some processes have used until now."""

    cpu_seconds: float  # user and system, children that have ended counted in
    memory: int  # bytes of their own that are resident now
    read_bytes: int  # by system calls
    written_bytes: int  # likewise


def sample(pids: Iterable[int]) -> Sample:
    """Look at processes from outside; those that have just ended count nothing."""
    cpu, anonymous, shared, read, written = 0.0, 0, 0, 0, 0
    for pid in pids:
        folder = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError, ValueError, IndexError):
            times = (folder / "stat").read_text().rpartition(")")[2].split()[11:15]
            cpu += sum(int(each) for each in times) / _TICKS
            memory = _fields(folder / "status", ("RssAnon", "RssShmem"))
            anonymous += memory.get("RssAnon", 0) * 1024
            shared = max(shared, memory.get("RssShmem", 0) * 1024)
            moved = _fields(folder / "io", ("rchar", "wchar"))
            read, written = read + moved.get("rchar", 0), written + moved.get("wchar", 0)
    return Sample(cpu_seconds=cpu, memory=anonymous + shared, read_bytes=read, written_bytes=written)


def thread_seconds(thread: int) -> float:
    """Return the processor time of one thread of this process, by the kernel's number; 0 where it cannot be told."""
    try:
        times = Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return sum(int(each) for each in times) / _TICKS


def exact_memory(pids: Iterable[int]) -> int:
    """Return the bytes that processes hold, pages that they share with each other counted once.

    It costs the kernel a walk through their memory: ask it before a process is ended for what `sample` says.
    """
    found = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"), ("Pss_Anon", "Pss_Shmem"))
            found += sum(rollup.values()) * 1024
    return found


class Meter:
    """Measures one step in this process; `own_thread` counts the processor time of the calling thread alone.

    >>> meter = Meter()
    >>> sum(range(1000)) and meter.read().wall_seconds >= 0
    True
    """

    def __init__(self, *, own_thread: bool = False) -> None:
        self._thread = own_thread
        if not own_thread:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        self._wall = time.monotonic()
        self._cpu = self._seconds()
        self._moved = self._io()

    def read(self, peak: int = 0) -> Usage:
        """Return what was used since the meter was made; `peak` is what others have seen of its memory."""
        read, written = (now - then for now, then in zip(self._io(), self._moved, strict=True))
        return Usage(
            wall_seconds=time.monotonic() - self._wall,
            cpu_seconds=self._seconds() - self._cpu,
            peak_memory=max(peak, _peak()),
            read_bytes=max(0, read),
            written_bytes=max(0, written),
        )

    def _seconds(self) -> float:
        if self._thread:
            return time.thread_time()
        times = os.times()
        return time.process_time() + times.children_user + times.children_system

    def _io(self) -> tuple[int, int]:
        place = f"task/{threading.get_native_id()}/io" if self._thread else "io"
        moved = _fields(Path(f"/proc/self/{place}"), ("rchar", "wchar"))
        return moved.get("rchar", 0), moved.get("wchar", 0)


def _peak() -> int:
    found = _fields(Path("/proc/self/status"), ("VmHWM",)).get("VmHWM", 0) * 1024
    return found or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _fields(path: Path, names: Iterable[str]) -> dict[str, int]:
    """Return numbers of a file of lines like `name: 12 kB`; {} where there is none."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in names:
                found[name] = int(rest.split()[0])
    return found
