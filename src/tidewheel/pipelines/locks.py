"""Who is alive: the owner of a run holds an operating-system lock, which the kernel frees at its death."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tidewheel.errors import AlreadyRunning, StorageUnavailable

_PATIENCE = 2.0  # seconds; somebody who only looks whether the owner lives holds the lock for a moment


def owner_name() -> str:
    """Return host and process id of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def lives_here(host: str, home: str, at: Path) -> bool:
    """Say whether a run's lock is in this home on this machine, so that its owner's life can be judged from here."""
    return host == socket.gethostname() and home == str(at.resolve())


@contextmanager
def run_lock(home: Path, run_id: str) -> Iterator[None]:
    """Hold the lock of a run.

    Its file is removed before it is released: whoever waits for it finds that out (by the link count) and begins anew.

    Raises AlreadyRunning when a living process holds it, StorageUnavailable when it cannot be made.
    """
    path = _path(home, run_id)
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_PATIENCE)
    except Timeout as error:
        raise AlreadyRunning(
            f"The run {run_id} is being worked on by another process.", "Wait for it, or stop that process first."
        ) from error
    except OSError as error:
        raise StorageUnavailable(
            f"The lock {path} cannot be made: {error.strerror or error}.",
            "Make the home folder writable, or choose another with home = ... in tidewheel.toml.",
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def owner_is_dead(home: Path, run_id: str) -> Iterator[bool]:
    """Say whether nobody holds the lock of a run; while the block lasts nobody else can take it."""
    lock = FileLock(_path(home, run_id))
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        yield False  # held by a living process, or the folder cannot be written: nothing can be said
        return
    try:
        yield True
    finally:
        lock.release()


def _path(home: Path, run_id: str) -> Path:
    return home / "locks" / f"run-{run_id}.lock"
