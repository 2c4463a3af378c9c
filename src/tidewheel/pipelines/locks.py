"""Who is alive: the owner of a run holds an operating-system lock, which the kernel frees at its death."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tidewheel.clock import new_id
from tidewheel.errors import AlreadyRunning, StorageUnavailable

_PATIENCE = 2.0  # seconds; somebody who only looks whether the owner lives holds the lock for a moment


def owner_name() -> str:
    """Return host and process id of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A home on a machine: processes of one place see each other's locks, those of two do not."""

    host: str  # name of the machine
    home: str  # resolved path of the home
    mark: str  # made up once and kept in the home: two containers may share a host's name and a path, but not this

    def facets(self) -> dict[str, str]:
        """Return what a run records about where it lives."""
        return {"host": self.host, "home": self.home, "mark": self.mark}

    def is_of(self, facets: Mapping[str, Any]) -> bool:
        """Say whether a run's lock is in this place, so that its owner's life can be judged by it."""
        same = (facets.get("host"), facets.get("home")) == (self.host, self.home)
        return same and facets.get("mark", self.mark) == self.mark


def place_at(home: Path) -> Place:
    """Return the place of a home, marked now if it is new; raises StorageUnavailable where that cannot be written."""
    path = home / "locks" / "mark"
    try:
        mark = path.read_text() if path.exists() else _marked(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    return Place(host=socket.gethostname(), home=str(home.resolve()), mark=mark)


def _marked(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{new_id()}")
    partial.write_text(new_id())
    with contextlib.suppress(FileExistsError):
        os.link(partial, path)  # whole or not at all, and the first one counts
    partial.unlink()
    return path.read_text()


def _unwritable(path: Path, error: OSError) -> StorageUnavailable:
    return StorageUnavailable(
        f"The lock {path} cannot be made: {error.strerror or error}.",
        "Make the home folder writable, or choose another with home = ... in tidewheel.toml.",
        passing=error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    )


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
        raise _unwritable(path, error) from error
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
