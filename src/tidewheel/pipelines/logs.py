"""What a step prints goes to its own file."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from tidewheel.errors import StorageUnavailable
from tidewheel.pipelines.redaction import Redactor
from tidewheel.pipelines.secrets import NONE, Secrets

_HERE = str(Path(__file__).parent)
TAIL_LINES = 12
_LAST_WORDS = 2.0  # seconds in which what is left in the pipe of a step with secrets is written


def log_file(home: Path, run_id: str, label: str) -> Path:
    """Return where the output of a call is kept: `<home>/runs/<run>/<step>.log`."""
    return home / "runs" / run_id / f"{label}.log"


class StepLog(io.TextIOBase):
    """A log file that is made when the first text is written; secrets are covered.

    Nothing is buffered but what may be the beginning of a secret.
    """

    def __init__(self, path: Path, secrets: Secrets = NONE) -> None:
        super().__init__()
        self.path = path
        self._redactor = secrets.redactor() if secrets else None
        self._file: io.FileIO | None = None

    def write(self, text: str) -> int:
        """Append text; raises StorageUnavailable when it cannot be kept."""
        data = text.encode("utf-8", "backslashreplace")
        self.append(self._redactor.feed(data) if self._redactor else data)
        return len(text)

    def append(self, data: bytes) -> None:
        """Append bytes in which no secret stands; raises StorageUnavailable."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._opened().write(left) :]
        except OSError as error:
            raise StorageUnavailable(
                f"The log {self.path} cannot be written: {error.strerror or error}.",
                "Free room or make the home folder writable.",
            ) from error

    def writable(self) -> bool:
        """Say yes."""
        return True

    def close(self) -> None:
        """Write what was held back, and close the file, if there is one."""
        if self._redactor is not None:
            rest, self._redactor = self._redactor.rest(), None
            with contextlib.suppress(StorageUnavailable):  # the write before it would have told
                self.append(rest)
        if self._file is not None:
            self._file.close()
        super().close()

    def _opened(self) -> io.FileIO:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = io.FileIO(self.path, "a")
        return self._file


class _Router(io.TextIOBase):
    """Standard output while steps run in threads of this process: each of theirs has a log, others write as before."""

    def __init__(self, before: IO[str]) -> None:
        super().__init__()
        self.before = before
        self.logs: dict[int, StepLog] = {}  # by thread

    def write(self, text: str) -> int:
        log = self.logs.get(threading.get_ident())
        return self.before.write(text) if log is None else log.write(text)

    def flush(self) -> None:
        self.before.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False


_routing = threading.Lock()  # `sys.stdout` belongs to all threads: one at a time puts a router there or takes it away


@contextlib.contextmanager
def captured(log: StepLog) -> Iterator[None]:
    """Send what this thread prints inside the block to a log."""
    thread = threading.get_ident()
    with _routing:
        routers = {name: _router(name) for name in ("stdout", "stderr")}
        outer = {name: router.logs.get(thread) for name, router in routers.items()}
        for router in routers.values():
            router.logs[thread] = log
    try:
        yield
    finally:
        with _routing:
            for name, router in routers.items():
                _take_back(name, router, thread, outer[name])


def _take_back(name: str, router: _Router, thread: int, before: StepLog | None) -> None:
    if before is not None:
        router.logs[thread] = before
        return
    del router.logs[thread]
    if not router.logs and getattr(sys, name) is router:
        setattr(sys, name, router.before)


def _router(name: str) -> _Router:
    found = getattr(sys, name)
    if not isinstance(found, _Router):
        found = _Router(found)
        setattr(sys, name, found)
    return found


@contextlib.contextmanager
def redirected(path: Path, secrets: Secrets = NONE) -> Iterator[None]:
    """Send all that this process and its children print inside the block to a log, at the level of descriptors.

    With secrets it goes through a pipe, where they are covered; else straight into the file, where a process that is
    killed has left all that it wrote.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _covered(path, secrets) if secrets else path.open("ab") as file, _printing_to(file.fileno()):
        yield


@contextlib.contextmanager
def _printing_to(target: int) -> Iterator[None]:
    before = os.dup(1), os.dup(2)
    for number in (1, 2):
        os.dup2(target, number)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        for number, old in enumerate(before, start=1):
            os.dup2(old, number)
            os.close(old)


@contextlib.contextmanager
def _covered(path: Path, secrets: Secrets) -> Iterator[IO[bytes]]:
    """Give the end of a pipe to write into; a thread covers what comes out of it."""
    reads, writes = os.pipe()
    failed: list[StorageUnavailable] = []
    thread = threading.Thread(target=_cover, args=(reads, path, secrets.redactor(), failed), daemon=True)
    thread.start()
    try:
        with os.fdopen(writes, "wb", 0) as file:
            yield file
    finally:
        thread.join(_LAST_WORDS)  # a process that the step left behind may hold the pipe open for ever
    if failed:
        raise failed[0]


def _cover(reads: int, path: Path, redactor: Redactor, failed: list[StorageUnavailable]) -> None:
    with StepLog(path) as log, os.fdopen(reads, "rb", 0) as pipe:
        while data := pipe.read(65_536):
            _append(log, redactor.feed(data), failed)
        _append(log, redactor.rest(), failed)


def _append(log: StepLog, data: bytes, failed: list[StorageUnavailable]) -> None:
    try:
        log.append(data)
    except StorageUnavailable as error:  # the step must not wait for ever for a full pipe: what it prints is dropped
        failed.append(error)


def trace(error: BaseException) -> str:
    """Return the traceback of an error from the user's own code on, without the frames of this room."""
    return "".join(traceback.format_exception(type(error), error, _outside(error.__traceback__)))


def headline(error: BaseException) -> str:
    """Return one line: type, message and the last line of the user's code."""
    last = traceback.extract_tb(_outside(error.__traceback__))[-1:]
    where = f" ({Path(last[0].filename).name}, line {last[0].lineno})" if last else ""
    text = _said(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + text[0] if text else ''}{where}"


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as odd:  # noqa: BLE001 - an error of the user's own making may fail to say what it is
        return f"which cannot be shown: its text raises {type(odd).__name__}"


def tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log; [] when there is none."""
    try:
        return path.read_text("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []  # nothing was printed, or the folder is out of reach; the error itself is told anyway


def _outside(frames: TracebackType | None) -> TracebackType | None:
    """Skip the leading frames of this room; keep all when the error arose in it."""
    found = frames
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_HERE):
        found = found.tb_next
    return found or frames
