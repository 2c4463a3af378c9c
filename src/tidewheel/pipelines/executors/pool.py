"""Warm workers of one Python interpreter, kept by a warden."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.fingerprint.place import module_label
from tidewheel.pipelines.executors.frames import Frames, pair
from tidewheel.pipelines.executors.orders import Order, Setup
from tidewheel.pipelines.executors.seam import Task
from tidewheel.pipelines.stored import Shelf

START_SECONDS = 120.0  # within which a worker has to import what a step needs
GONE = (BrokenPipeError, ConnectionResetError, EOFError, OSError)
_LAST_WORDS = 10.0  # seconds in which a warden ends its workers and itself
_KEPT_MEMORY = 512 * 1024 * 1024  # bytes; a worker that keeps more after a step is not used again
_KEPT_SHARE = 0.25  # of a memory limit; what earlier tasks left behind must not count against the next one
_PROGRAM = "import sys; sys.path[:0] = sys.argv[4:]; from tidewheel.pipelines.executors.warden import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python that workers run in."""

    program: str  # its executable
    setup: Setup  # what its workers are told
    path: tuple[str, ...]  # where its warden finds tidewheel
    variables: Mapping[str, str]  # environment


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process and what it is doing."""

    key: int  # what the warden calls it
    shape: tuple[Any, ...]  # threads and devices that it was started for
    pipe: Frames  # orders go down, outcomes come up
    errors: Any  # file with what it printed outside of tasks
    fresh: bool = True  # whether it has not executed anything yet
    parcels: set[str] = field(default_factory=set)  # digests of the steps that it has loaded
    parcel: str = ""  # digest of the step that it was sent last
    task: Task | None = None  # what it executes
    begun: bool = False  # whether the step itself runs, imports being done
    deadline: float = float("inf")  # monotonic time at which its imports are overdue
    kept: int = 0  # bytes that it still held after its last task
    peak: int = 0  # bytes that the warden saw its task hold at most
    closed: bool = False  # whether its pipe is, and the warden is about to say why

    def last_words(self) -> str:
        """Return the last line that it printed outside of tasks, such as the kind of a crash."""
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        return str((fatal or lines[-1:] or [""])[0])

    def drop(self) -> None:
        """Give its files back."""
        self.pipe.close()
        self.errors.close()


@dataclass(slots=True)
class Pool:
    """Starts workers through a warden, and hears from it."""

    interpreter: Interpreter  # where they run
    beat_seconds: float  # between two signs of life of a task
    workers: dict[int, Worker] = field(default_factory=dict)  # all that live, by key
    _idle: list[Worker] = field(default_factory=list)  # last used last
    _process: subprocess.Popen[bytes] | None = None  # the warden
    _control: socket.socket | None = None  # our end of the socket to it
    _count: int = 0  # workers so far
    _text: bytes = b""  # of the warden's words, what is not a line yet
    _errors: Any = None  # file with what the warden printed

    @property
    def control(self) -> socket.socket | None:
        """The socket that the warden speaks through, once there is one."""
        return self._control

    def hand_over(self, task: Task, order: Order, shape: tuple[Any, ...]) -> Worker:
        """Give an order to a warm worker of that shape, or to a new one.

        Raises InvalidInput when none starts, StorageUnavailable when there is no room for a process.
        """
        while True:
            worker = self._warm(shape, order.memory) or self._start(shape)
            had = order.parcel.digest in worker.parcels
            try:
                worker.pipe.send_bytes(pickle.dumps(replace(order, parcel=order.parcel.bare()) if had else order))
            except GONE as error:
                self.retire(worker)  # it died while idle
                if worker.fresh:
                    raise InvalidInput(
                        f"No worker starts in {self.interpreter.program}: {self._break_off() or error}",
                        "Look whether that Python works, and whether this machine has room for a process.",
                    ) from error
                continue
            break
        worker.parcel = order.parcel.digest
        worker.task, worker.begun, worker.peak = task, False, 0
        worker.deadline = time.monotonic() + START_SECONDS
        return worker

    def rest(self, worker: Worker, *, memory: int = 0) -> None:
        """Take a worker back that is done; `memory` is what it keeps."""
        worker.task, worker.deadline = None, float("inf")
        worker.kept = memory
        if memory > _KEPT_MEMORY:
            self.retire(worker)
        else:
            self._idle.append(worker)

    def retire(self, worker: Worker) -> None:
        """End a worker with everything that it started."""
        if self.workers.pop(worker.key, None) is not None:
            self._order({"do": "end", "key": worker.key})
            self._forget(worker)

    def hear(self) -> list[dict[str, Any]]:
        """Return what the warden has said since; when it is dead, that all workers are."""
        if self._control is None:
            return []
        try:
            data = self._control.recv(65_536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            said = self._break_off()
            return [{"event": "ended", "key": key, "code": None, "error": said} for key in self.workers]
        *lines, self._text = (self._text + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def bury(self, worker: Worker) -> None:
        """Forget a worker that has ended."""
        self.workers.pop(worker.key, None)
        self._forget(worker)

    def close(self) -> None:
        """End the warden, and with it every worker."""
        for worker in self.workers.values():
            worker.drop()
        self.workers.clear()
        self._idle.clear()
        self._break_off()

    def _forget(self, worker: Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        worker.drop()

    def _warm(self, shape: tuple[Any, ...], memory: int | None) -> Worker | None:
        """Return an idle worker; one that still holds much is no good for a task with a memory limit."""
        for worker in [each for each in reversed(self._idle) if each.shape == shape]:
            if not memory or worker.kept <= memory * _KEPT_SHARE:
                self._idle.remove(worker)
                return worker
            self.retire(worker)
        return None

    def _start(self, shape: tuple[Any, ...]) -> Worker:
        ours, theirs = pair()
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._count += 1
        threads, devices = shape
        order = {"do": "start", "key": self._count, "threads": threads, "devices": list(devices)}
        try:
            self._order(order, files=(theirs.fileno(), errors.fileno()))
        finally:
            theirs.close()
        with contextlib.suppress(*GONE):
            ours.send_bytes(pickle.dumps(self.interpreter.setup))
        worker = Worker(key=self._count, shape=shape, pipe=ours, errors=errors)
        self.workers[worker.key] = worker
        return worker

    def _order(self, order: Mapping[str, Any], files: tuple[int, ...] = ()) -> None:
        line = json.dumps(order).encode() + b"\n"
        control = self._control or (self._begin() if files else None)
        with contextlib.suppress(*(() if files else GONE)):
            if control is not None:
                socket.send_fds(control, [line], files)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        given = self.interpreter
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the warden
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a Python of ours
                [
                    *(given.program, "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid()), str(self.beat_seconds)),
                    *given.path,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=dict(given.variables),
            )
        except OSError as error:
            ours.close()
            raise StorageUnavailable(
                f"No child process can be started: {error.strerror}.", "Free memory or processes, or run steps inline."
            ) from error
        finally:
            theirs.close()
        self._control = ours
        return ours

    def _break_off(self) -> str:
        """End the warden; return the last line that it printed."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(_LAST_WORDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._text = b""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        self._errors.close()
        self._errors = None
        return "".join(said)


def own_setup(shelf: Shelf) -> Setup:
    """Return what workers of this very Python are told."""
    return Setup(sys_path=absolute_path(), whole=True, shelf=shelf, main=module_label("__main__"))


def own_interpreter(setup: Setup) -> Interpreter:
    """Return the Python that runs this very program."""
    return Interpreter(program=sys.executable, setup=setup, path=tuple(absolute_path()), variables=dict(os.environ))


def absolute_path() -> list[str]:
    """Return where this process finds modules, as another one with another working folder can use it."""
    return [str(Path(entry).absolute()) for entry in sys.path]
