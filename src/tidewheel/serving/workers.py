"""Several processes behind one socket: kept alive, restarted one after the other, swapped together.

The parent binds the socket and answers nothing itself; workers inherit it. It loads no model and no database, so
nothing that a model does can harm it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tidewheel.errors import NotFound, NotReady
from tidewheel.serving.limits import DEFAULTS, Limits
from tidewheel.serving.link import Order, Report
from tidewheel.serving.metrics import Family
from tidewheel.serving.tallies import Tallies, retire

PREPARE_SECONDS = 10.0  # for which a swap waits for workers that have not loaded it
LOOK_SECONDS = 0.05  # between two looks at the workers
FAST_DEATH_SECONDS = 5.0  # a worker that dies younger than this is started again after a pause
FIRST_PAUSE_SECONDS = 0.5
MOST_PAUSE_SECONDS = 30.0
HOPELESS = 3  # workers in a row that end before any was ready: it will not get better by itself
MARGIN_SECONDS = 2.0  # beyond its own time limit, after which a worker that says nothing is killed

logger = logging.getLogger("tidewheel.serving")


@dataclass(slots=True, kw_only=True, eq=False)
class _Worker:
    slot: int  # its place, from 0; w<slot> is its name as a writer of logs
    number: int  # never used twice
    process: subprocess.Popen[bytes]
    line: socket.socket  # to its Link
    started: float  # monotonic seconds
    heard: float  # when it last said something
    ready: bool = False  # whether it accepts connections
    leaving: bool = False  # whether it was told to end
    kill_at: float = 0.0  # when it is killed, once it was told to end
    buffer: bytes = b""  # what it has begun to say
    prepared: dict[str, int] = field(default_factory=dict)  # model -> newest deployment that it has loaded
    refused: dict[str, str] = field(default_factory=dict)  # model -> why it could not load the newest


@dataclass(slots=True, kw_only=True)
class _Slot:
    worker: _Worker | None = None  # who answers
    spare: _Worker | None = None  # who is to answer instead, while workers are restarted one after the other
    deaths: int = 0  # in a row that came fast
    start_at: float = 0.0  # monotonic second of the next start while it is empty


class Workers:
    """The workers of one server.

    `command` starts one: the descriptors of the listening socket and of its line to the parent are added to it, and
    `plan` is the first thing that it hears.
    """

    def __init__(
        self,
        command: Sequence[str],
        listening: socket.socket,
        count: int,
        *,
        folder: Path,
        plan: str = "",
        limits: Limits = DEFAULTS,
        on_ready: Callable[[], None] = lambda: None,
        on_change: Callable[[str], None] = logger.warning,
    ) -> None:
        self._command = tuple(command)
        self._listening = listening
        self._slots = [_Slot() for _ in range(count)]
        self._folder = folder
        self._plan = plan
        self._limits = limits
        self._on_ready = on_ready
        self._on_change = on_change
        self._selector = selectors.DefaultSelector()
        self._numbers = 0
        self._restarts = 0  # of workers that died
        self._was_ready = False
        self._hopeless = 0
        self._live: dict[str, int] = {}  # model -> deployment that all were told to take up
        self._first: dict[tuple[str, int], float] = {}  # (model, deployment) -> when the first had prepared it
        self._queue: deque[int] = deque()  # slots that are still to be restarted
        self._stop = False
        self._reload = False

    def run(self) -> None:
        """Keep the workers alive until SIGTERM or SIGINT, then let them drain; SIGHUP restarts them one by one.

        Raises NotReady when worker after worker ends before one is ready.
        """
        with self._signals(), _marked(self._folder):
            try:
                while not self._stop:
                    self._look()
            finally:
                self._end()
                self._selector.close()

    def stop(self) -> None:
        """Let `run` end; for any thread."""
        self._stop = True

    def reload(self) -> None:
        """Restart the workers one after the other, each replaced by one that is ready; for any thread."""
        self._reload = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(number: int, _: object) -> None:
            if number == signal.SIGHUP:
                self._reload = True
            else:
                self._stop = True

        before = {each: signal.signal(each, handle) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _look(self) -> None:
        if self._reload:
            self._reload = False
            self._queue = deque(range(len(self._slots)))
        for place, slot in enumerate(self._slots):
            if slot.worker is None and time.monotonic() >= slot.start_at:
                slot.worker = self._start(place)
        self._roll()
        for key, _ in self._selector.select(LOOK_SECONDS):
            self._hear(key.data)
        now = time.monotonic()
        for worker in self._all():
            self._check(worker, now)
        for model in {model for worker in self._all() for model in worker.prepared}:
            self._flip(model, now)

    def _all(self) -> list[_Worker]:
        return [each for slot in self._slots for each in (slot.worker, slot.spare) if each is not None]

    def _start(self, place: int) -> _Worker:
        ours, theirs = socket.socketpair()
        self._numbers += 1
        descriptors = (self._listening.fileno(), theirs.fileno())
        # Numerics that take all cores in each of several processes wait for each other.
        environment = {"OMP_NUM_THREADS": "1"} | os.environ
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - argv is our own, no shell
                (*self._command, *map(str, descriptors)),
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                env=environment,
            )
        now = time.monotonic()
        worker = _Worker(slot=place, number=self._numbers, process=process, line=ours, started=now, heard=now)
        order = Order(
            name=f"w{place}", number=worker.number, plan=self._plan, folder=str(self._folder), flips=self._live
        )
        self._tell(worker, order)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _tell(self, worker: _Worker, order: Order) -> None:
        with suppress(OSError):  # one that is gone is noticed by its end
            worker.line.sendall(msgspec.json.encode(order) + b"\n")

    def _hear(self, worker: _Worker) -> None:
        try:
            data = worker.line.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            with suppress(KeyError):
                self._selector.unregister(worker.line)
            return
        worker.heard = time.monotonic()
        *lines, worker.buffer = (worker.buffer + data).split(b"\n")
        for line in lines:
            self._take(worker, msgspec.json.decode(line, type=Report))

    def _take(self, worker: _Worker, report: Report) -> None:
        if report.kind == "ready":
            worker.ready, self._hopeless = True, 0
            if not self._was_ready:
                self._was_ready = True
                self._on_ready()
        elif report.kind == "prepared":
            worker.prepared[report.model] = report.seq
            worker.refused.pop(report.model, None)
            self._first.setdefault((report.model, report.seq), time.monotonic())
        elif report.kind == "refused":
            worker.refused[report.model] = report.reason
        if report.kind != "beat":
            _publish(self._folder, self._all(), self._restarts)

    def _flip(self, model: str, now: float) -> None:
        """Let a deployment go live once every worker has it, or those that do have waited long enough."""
        there = [worker for worker in self._all() if worker.ready and not worker.leaving]
        seq = max((worker.prepared.get(model, 0) for worker in there), default=0)
        if seq <= self._live.get(model, 0):
            return
        behind = [worker for worker in there if worker.prepared.get(model, 0) < seq]
        if behind and now - self._first.get((model, seq), now) < PREPARE_SECONDS:
            return
        self._live[model] = seq
        self._first = {key: at for key, at in self._first.items() if key[0] != model or key[1] > seq}
        for worker in self._all():
            self._tell(worker, Order(flips={model: seq}))
        for worker in behind:
            reason = worker.refused.get(model, "it has not said why")
            self._on_change(f"worker w{worker.slot} stays behind deployment {seq} of {model}: {reason}")

    def _check(self, worker: _Worker, now: float) -> None:
        if worker.process.poll() is not None:
            self._bury(worker, now)
        elif worker.leaving and now > worker.kill_at:
            worker.process.kill()
        elif worker.ready and not worker.leaving and now - worker.heard > self._limits.timeout_seconds + MARGIN_SECONDS:
            self._on_change(f"worker w{worker.slot} says nothing any more and is killed")
            worker.process.kill()

    def _bury(self, worker: _Worker, now: float) -> None:
        slot, code = self._slots[worker.slot], worker.process.returncode
        with suppress(KeyError):
            self._selector.unregister(worker.line)
        worker.line.close()
        retire(self._folder, worker.number)
        if worker is slot.spare:
            slot.spare = None
            self._queue.clear()
            self._on_change(f"a new worker ended with {code} before it was ready; the old ones go on")
        else:
            slot.worker, slot.spare = slot.spare, None
            if not worker.leaving:
                self._mourn(slot, worker, now)
        _publish(self._folder, self._all(), self._restarts)

    def _mourn(self, slot: _Slot, worker: _Worker, now: float) -> None:
        """Decide when a worker that died is started again."""
        code = worker.process.returncode
        self._restarts += 1
        if not worker.ready and not self._was_ready:
            self._hopeless += 1
            if self._hopeless >= HOPELESS:
                raise NotReady(f"No worker comes up: the last one ended with {code}.", "See above what it said.")
        slot.deaths = slot.deaths + 1 if now - worker.started < FAST_DEATH_SECONDS else 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (slot.deaths - 2), MOST_PAUSE_SECONDS) if slot.deaths > 1 else 0.0
        slot.start_at = now + pause
        self._on_change(f"worker w{worker.slot} ended with {code} and is started again")

    def _roll(self) -> None:
        """Go on with restarting workers: one at a time, the old one told to end when the new one is ready."""
        for slot in self._slots:
            if slot.spare is None:
                continue
            if slot.spare.ready and slot.worker is not None and not slot.worker.leaving:
                self._leave(slot.worker)
            return
        while self._queue:
            place = self._queue.popleft()
            if self._slots[place].worker is not None:
                self._slots[place].spare = self._start(place)
                return

    def _leave(self, worker: _Worker) -> None:
        worker.leaving = True
        worker.kill_at = time.monotonic() + self._limits.drain_seconds + MARGIN_SECONDS
        worker.process.terminate()

    def _end(self) -> None:
        self._listening.close()  # who comes now is refused by the kernel as soon as no worker listens any more
        for worker in self._all():
            self._leave(worker)
        for worker in self._all():
            try:
                worker.process.wait(max(worker.kill_at - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.line.close()


def _publish(folder: Path, workers: Sequence[_Worker], restarts: int) -> None:
    """Put down where workers and people look: who there is, and what those lack that lag behind."""
    states = [
        {
            "name": f"w{worker.slot}",
            "pid": worker.process.pid,
            "ready": worker.ready,
            **({"leaving": True} if worker.leaving else {}),
            **({"refused": worker.refused} if worker.refused else {}),
        }
        for worker in workers
    ]
    with suppress(OSError):
        fresh = folder / "workers.new"
        fresh.write_text(json.dumps(states))
        fresh.replace(folder / "workers.json")
        answering = sum(worker.ready and not worker.leaving for worker in workers)
        Tallies(folder, 0).keep(_families(answering, restarts))


def _families(answering: int, restarts: int) -> Iterator[Family]:
    yield Family(name="tidewheel_workers", kind="gauge", help="Workers that answer.", samples=[("", (), answering)])
    yield Family(
        name="tidewheel_worker_restarts_total",
        kind="counter",
        help="Workers that ended by themselves and were started again.",
        samples=[("", (), restarts)],
    )


def folder_of(home: Path, port: int) -> Path:
    """Return where the workers of the server on a port meet."""
    return home / "serving" / str(port)


def ask_to_reload(home: Path, port: int) -> int:
    """Let the server on a port restart its workers one after the other; return its process id.

    Raises NotFound when none runs there.
    """
    servers = [each for each in (home / "serving").glob("*") if _held(each / "parent.pid")]
    found = folder_of(home, port)
    if found not in servers:
        raise NotFound("running server on port", str(port), [each.name for each in servers])
    pid = int((found / "parent.pid").read_text())
    os.kill(pid, signal.SIGHUP)
    return pid


@contextmanager
def _marked(folder: Path) -> Iterator[None]:
    """Hold the folder of a server, emptied of what an earlier one left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / "parent.pid").open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        mark.write(str(os.getpid()))
        mark.flush()
        yield
    shutil.rmtree(folder, ignore_errors=True)


def _held(path: Path) -> bool:
    try:
        with path.open() as mark:
            fcntl.flock(mark, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
