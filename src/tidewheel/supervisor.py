"""Run conductor, servers and page together: one owner per store, children restarted, all ended with the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidewheel.errors import AlreadyRunning, StorageUnavailable

PARENT_VARIABLE = "TIDEWHEEL_PARENT_PID"
DRAIN_SECONDS = 15.0  # a child that has not ended by then after SIGTERM is killed
FAST_DEATH_SECONDS = 5.0  # a child that dies younger than this waits before it is started again
MAX_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process that the supervisor keeps alive."""

    name: str  # conductor, serving or web
    command: tuple[str, ...]  # argv


@dataclass(slots=True, kw_only=True)
class _Child:
    service: Service
    process: subprocess.Popen[bytes]
    started: float  # monotonic seconds
    deaths: int = 0  # deaths in a row that came fast
    start_at: float = 0.0  # monotonic second of the next start while it is down


def tidewheel_command(*words: str) -> tuple[str, ...]:
    """Return the argv that runs a tidewheel command with this very interpreter."""
    return (sys.executable, "-m", "tidewheel", *words)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the store's `up` lock; a second holder gets AlreadyRunning with the first one's process id."""
    from filelock import FileLock, Timeout

    folder = home / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "up.lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        owner = _read(folder / "up.pid")
        raise AlreadyRunning(
            f"tidewheel up already runs on {home} (process {owner or 'unknown'}).",
            "Use that one, stop it first, or give this one a home of its own with --home.",
        ) from error
    except OSError as error:
        raise StorageUnavailable(
            f"{folder} cannot be written: {error.strerror}.", "Make it writable or choose another --home."
        ) from error
    (folder / "up.pid").write_text(str(os.getpid()))
    try:
        yield
    finally:
        lock.release()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def supervise(
    services: Sequence[Service],
    *,
    log_folder: Path,
    stop: threading.Event,
    on_change: Callable[[str, str], None],
) -> None:
    """Keep the services running until `stop` is set, then end them: SIGTERM, drain, SIGKILL.

    Each service's output goes to `<log_folder>/<name>.log`. `on_change(name, what)` is told
    "started", "restarted" and "died with N".
    """
    log_folder.mkdir(parents=True, exist_ok=True)
    children = [_Child(service=item, process=_start(item, log_folder), started=time.monotonic()) for item in services]
    for child in children:
        on_change(child.service.name, "started")
    try:
        while not stop.wait(0.2):
            for child in children:
                _look_after(child, log_folder, on_change)
    finally:
        _end([child.process for child in children])


def _start(service: Service, log_folder: Path) -> subprocess.Popen[bytes]:
    # Several processes share the cores: numerics that take all of them in each one wait for each other.
    threads = str(max((os.cpu_count() or 2) // 2, 1))
    environment: Mapping[str, str] = {"OMP_NUM_THREADS": threads} | os.environ | {PARENT_VARIABLE: str(os.getpid())}
    with (log_folder / f"{service.name}.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - argv is our own, no shell
            service.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment)
        )


def _look_after(child: _Child, log_folder: Path, on_change: Callable[[str, str], None]) -> None:
    now = time.monotonic()
    code = child.process.poll()
    if code is None:
        if child.deaths and now - child.started > FAST_DEATH_SECONDS:
            child.deaths = 0
        return
    if not child.start_at:
        on_change(child.service.name, f"died with {code}")
        child.deaths += 1
        pause = 0.0 if child.deaths == 1 else min(2.0 ** (child.deaths - 1), MAX_PAUSE_SECONDS)
        child.start_at = now + pause
    if now >= child.start_at:
        child.process, child.started, child.start_at = _start(child.service, log_folder), now, 0.0
        on_change(child.service.name, "restarted")


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + DRAIN_SECONDS
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def die_with_parent() -> None:
    """Let this process end by SIGTERM when the supervisor that started it is gone, even by SIGKILL."""
    parent = os.environ.get(PARENT_VARIABLE, "")
    if not parent.isdigit() or os.getppid() != int(parent):
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set; the former handlers come back afterwards."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
