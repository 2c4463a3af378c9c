"""A process with all that it has started: found and ended as a whole.

On Linux each worker is the reaper of its orphans (PR_SET_CHILD_SUBREAPER, Linux 3.4 of 2012), so that a grandchild
stays below it whatever it does: ignore SIGTERM, leave the session, fork twice. Elsewhere the process group has to do.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_LINUX = _PROC.joinpath("self", "stat").exists()
_PDEATHSIG, _SUBREAPER = 1, 36  # names of prctl in linux/prctl.h
_ROUNDS = 50  # looks at the tree; each stops what the one before had not seen


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; nothing happens where that cannot be."""
    _prctl(_SUBREAPER, 1)


def hear_of_parents_end(number: signal.Signals) -> None:
    """Have the kernel send a signal when the parent ends; nothing happens where that cannot be."""
    _prctl(_PDEATHSIG, number)


def descendants(pid: int) -> list[int]:
    """Return all processes below one, the nearest first."""
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children(queue.pop(0))
        found += below
        queue += below
    return found


def end_family(pid: int, *, spare: int = 0) -> None:
    """Kill a process and everything below it; with `spare` that one process, usually the caller, is left.

    Each is stopped before it is killed: what is stopped cannot start another one unseen.
    """
    if not _LINUX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid != spare:
                os.killpg(pid, signal.SIGKILL)
        return
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        seen = {pid, *_below(pid)} - stopped - {spare}
        if not seen:
            break
        for each in seen:
            _send(each, signal.SIGSTOP)
        stopped |= seen
    for each in stopped:
        _send(each, signal.SIGKILL)


def _below(pid: int) -> Iterator[int]:
    """Yield the processes below one, from a look at every process: exact also while they come and go."""
    parents = dict(found for folder in _PROC.iterdir() if (found := _parent(folder)) is not None)
    for each, parent in parents.items():
        above, steps = parent, 0
        while above not in (0, pid) and steps < len(parents):
            above, steps = parents.get(above, 0), steps + 1
        if above == pid:
            yield each


def _parent(folder: Path) -> tuple[int, int] | None:
    """Return the number of a process that lives and of its parent, from its folder in /proc; None for another one."""
    try:
        number = int(folder.name)
        state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return (number, int(parent)) if state != "Z" else None


def children(pid: int) -> list[int]:
    """Return the processes right below one."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(each) for each in (task / "children").read_text().split()]
    return found


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _prctl(name: int, value: int) -> None:
    if not _LINUX:
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(name, int(value), 0, 0, 0)
