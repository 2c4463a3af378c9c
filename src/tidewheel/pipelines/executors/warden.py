"""The warden: a small process between a run and its workers, single-threaded so that it can fork safely.

It has imported what every worker needs, so that a new worker costs a fork. It keeps timeouts and memory limits even
while the run is busy, tells what steps use, and ends a worker with everything that it started; when the run's
process dies it ends all of them. It talks in lines of JSON over a socket; the files of a new worker come with them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidewheel.pipelines.executors import worker as worker_room
from tidewheel.pipelines.executors.family import adopt_orphans, children, descendants, end_family, hear_of_parents_end
from tidewheel.pipelines.executors.usage import Sample, exact_memory, sample

_LOOK_SECONDS = 1.0  # between two looks at what a step uses
_LIMITED_SECONDS = 0.2  # the same where a memory limit has to be kept
_WORTH_TELLING = 1.05  # a worker knows its own peak, not that of its children: told when it has grown by so much
_FILES = 2  # descriptors that come with the order to start a worker: its pipe, and where it may complain
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(slots=True)
class _Watch:
    """A worker's task while it goes on."""

    task: str  # its id
    deadline: float  # monotonic time at which it is overdue
    memory: int  # bytes that it may hold; 0: as it likes
    begun: float  # monotonic time
    before: Sample  # what its process had used before
    beat: float  # monotonic time of the next sign of life
    peak: int = 0  # bytes seen at most


@dataclass(slots=True)
class _Ward:
    """A worker process."""

    key: int  # what the run calls it
    pid: int  # process, leader of its session
    watch: _Watch | None = None  # its task
    why: dict[str, Any] = field(default_factory=dict)  # why it was ended, if the warden did it


class Warden:
    """Forks, watches and ends workers, as it is told over a socket."""

    def __init__(self, control: socket.socket, beat_seconds: float) -> None:
        self._control = control
        self._beat_seconds = beat_seconds
        self._wards: dict[int, _Ward] = {}  # by process
        self._text = b""
        self._files: list[int] = []
        self._notes_read, self._notes_write = os.pipe()
        self._notes = b""
        self._life, self._life_write = os.pipe()  # nobody writes: it ends when the warden does
        os.set_blocking(self._notes_read, False)
        self._bell = _bell()
        self._looked = 0.0

    def serve(self) -> None:
        """Go on until the run closes its end of the socket or is dead."""
        while True:
            sources: list[Any] = [self._control, self._notes_read, self._bell]
            ready = select.select(sources, [], [], self._patience())[0]
            if self._bell in ready:
                os.read(self._bell, 4096)
            if self._orphaned() or (self._control in ready and not self._listen()):
                break
            self._read_notes()
            self._look()
            self._reap()
        for pid in self._wards:
            end_family(pid)
        end_family(os.getpid(), spare=os.getpid())
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0)[0]:  # what they have used counts as the warden's own, and so as the run's
                pass

    def _orphaned(self) -> bool:
        return os.getppid() != int(sys.argv[2])

    def _patience(self) -> float | None:
        watches = [ward.watch for ward in self._wards.values() if ward.watch]
        if not watches:
            return None
        pause = _LIMITED_SECONDS if any(watch.memory for watch in watches) else _LOOK_SECONDS
        soonest = min(min(watch.deadline, watch.beat) for watch in watches)
        return max(0.0, min(self._looked + pause, soonest) - time.monotonic())

    def _listen(self) -> bool:
        try:
            data, files, _, _ = socket.recv_fds(self._control, 65_536, 64)
        except ConnectionResetError:
            return False
        self._files += files
        self._text += data
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            order = json.loads(line)
            if order["do"] == "start":
                self._start(order)
            else:
                self._end_key(int(order["key"]))
        return bool(data)

    def _start(self, order: Mapping[str, Any]) -> None:
        pipe, errors = self._files[:_FILES]
        del self._files[:_FILES]
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"event": "refused", "key": order["key"], "error": error.strerror or str(error)})
        else:
            if pid == 0:
                self._become_worker(pipe, errors, order)
            self._wards[pid] = _Ward(key=int(order["key"]), pid=pid)
        for number in (pipe, errors):
            os.close(number)

    def _become_worker(self, pipe: int, errors: int, order: Mapping[str, Any]) -> None:
        """Turn this fork into a worker; never returns."""
        try:
            ring = signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            adopt_orphans()
            os.dup2(errors, 2)
            for inherited in (self._life_write, self._notes_read, errors, self._bell, ring):
                os.close(inherited)
            self._control.close()
            _dress(order)
            worker_room.main(pipe, self._life, self._notes_write)
        except BaseException:  # noqa: BLE001 - a fork must not return into the warden's own loop
            import traceback

            traceback.print_exc()
            os._exit(70)
        os._exit(0)

    def _end_key(self, key: int) -> None:
        for ward in self._wards.values():
            if ward.key == key:
                end_family(ward.pid)

    def _read_notes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._notes_read, 65_536):
                self._notes += data
        *lines, self._notes = self._notes.split(b"\n")
        for line in lines:
            note = json.loads(line)
            ward = self._wards.get(int(note["pid"]))
            if ward is not None and note["task"]:
                ward.watch = self._watched(note, ward.pid)
            elif ward is not None:
                ward.watch = None

    def _watched(self, note: Mapping[str, Any], pid: int) -> _Watch:
        now = time.monotonic()
        return _Watch(
            task=note["task"],
            deadline=now + float(note["timeout"] or "inf"),
            memory=int(note["memory"] or 0),
            begun=now,
            before=sample([pid, *descendants(pid)]),
            beat=now + self._beat_seconds,
        )

    def _look(self) -> None:
        """Keep deadlines and limits, give signs of life."""
        now = time.monotonic()
        due = now >= self._looked + _LIMITED_SECONDS
        for ward in self._wards.values():
            watch = ward.watch
            if watch is None or ward.why:
                continue
            if now >= watch.deadline:
                self._end(ward, {"why": "timeout"})
            elif due or now >= watch.beat:
                self._measure(ward, watch, now)
        self._looked = now if due else self._looked

    def _measure(self, ward: _Ward, watch: _Watch, now: float) -> None:
        family = [ward.pid, *descendants(ward.pid)]
        seen = sample(family)
        if seen.memory > _WORTH_TELLING * watch.peak and len(family) > 1:
            self._say({"event": "peak", "key": ward.key, "task": watch.task, "memory": seen.memory})
        watch.peak = max(watch.peak, seen.memory)
        if watch.memory and seen.memory > watch.memory:
            exact = exact_memory(family) if len(family) > 1 else seen.memory
            if exact > watch.memory:
                self._end(ward, {"why": "memory", "used": exact})
                return
        if now >= watch.beat:
            watch.beat = now + self._beat_seconds
            self._say({"event": "beat", "key": ward.key, "task": watch.task, "usage": _used(watch, seen, now)})

    def _end(self, ward: _Ward, why: dict[str, Any]) -> None:
        """End a worker, unless its last note shows that the task is done."""
        self._read_notes()
        watch = ward.watch
        if watch is not None:
            seen = sample([ward.pid, *descendants(ward.pid)])
            ward.why = {**why, "usage": _used(watch, seen, time.monotonic())}
            end_family(ward.pid)

    def _reap(self) -> None:
        died = False
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                died = True
                ward = self._wards.pop(found[0], None)
                if ward is not None:
                    self._bury(ward, os.waitstatus_to_exitcode(found[1]))
        if died:
            self._end_strays()

    def _end_strays(self) -> None:
        """End what dead workers had started: it became the warden's child, the living keep their own."""
        for pid in set(children(os.getpid())) - set(self._wards):
            end_family(pid)

    def _bury(self, ward: _Ward, code: int) -> None:
        told = dict(ward.why)
        if ward.watch is not None and "usage" not in told:
            nothing = sample(())
            told["usage"] = _used(ward.watch, nothing, time.monotonic())
        self._say({"event": "ended", "key": ward.key, "code": code, **told})

    def _say(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.sendall(json.dumps(message).encode() + b"\n")


def _used(watch: _Watch, seen: Sample, now: float) -> dict[str, float]:
    before = watch.before
    return {
        "wall_seconds": now - watch.begun,
        "cpu_seconds": max(0.0, seen.cpu_seconds - before.cpu_seconds),
        "peak_memory": max(watch.peak, seen.memory),
        "read_bytes": max(0, seen.read_bytes - before.read_bytes),
        "written_bytes": max(0, seen.written_bytes - before.written_bytes),
    }


def _dress(order: Mapping[str, Any]) -> None:
    """Set what libraries read when they are imported: how many threads to start, which devices to use."""
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, str(order["threads"]))  # who has set it himself keeps it
    if order["devices"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(order["devices"])


def _bell() -> int:
    """Return a descriptor that can be read when a signal has come: a child ended, or the parent."""
    reads, writes = os.pipe()
    for number in (reads, writes):
        os.set_blocking(number, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, _hear)
    return reads


def _hear(number: int, frame: object) -> None:
    """Do nothing: that a signal has come stands in the bell's pipe."""
    del number, frame


def main() -> None:
    """Serve the run whose end of the socket, process id and wishes stand on the command line."""
    control, beat_seconds = socket.socket(fileno=int(sys.argv[1])), float(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what an interrupt means
    faulthandler.enable()
    warden = Warden(control, beat_seconds)
    adopt_orphans()
    hear_of_parents_end(signal.SIGUSR1)
    gc.freeze()  # the collector leaves alone what workers share with the warden
    warden.serve()
