"""The worker process: takes orders from a pipe, reads and writes blobs, leaves a manifest, sends the outcome."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidewheel.errors import StorageUnavailable
from tidewheel.fingerprint.place import stand_in
from tidewheel.pipelines.active import executing
from tidewheel.pipelines.executors.family import end_family
from tidewheel.pipelines.executors.frames import Frames
from tidewheel.pipelines.executors.loaded import LoadedSteps
from tidewheel.pipelines.executors.orders import Begun, Done, Order, Setup, Stale, leave_manifest
from tidewheel.pipelines.executors.seam import Failure, Outcome, kept, types_of
from tidewheel.pipelines.executors.usage import Meter, sample
from tidewheel.pipelines.logs import headline, redirected, trace
from tidewheel.pipelines.secrets import Secrets, equipped
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.tree import decode

_FIRST_TO_GO = "500"  # oom_score_adj: rather than the run, the kernel ends its steps for want of memory


class Line:
    """The way to the run, and the way to the warden, of one worker."""

    def __init__(self, pipe: Frames, notes: int) -> None:
        self._pipe = pipe
        self._notes = notes

    def next_order(self) -> Order:
        """Wait for work; raises EOFError when none will come."""
        order: Order = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - from the run, over its own pipe
        return order

    def begin(self, order: Order) -> None:
        """Say that the step's own time begins."""
        self._note({"task": order.id, "timeout": order.timeout, "memory": order.memory})
        self._pipe.send_bytes(pickle.dumps(Begun(id=order.id)))

    def end(self, message: Done | Stale) -> None:
        """Say what became of an order; its time has ended then."""
        self._note({"task": ""})
        self._pipe.send_bytes(pickle.dumps(message))

    def _note(self, note: Mapping[str, Any]) -> None:
        os.write(self._notes, json.dumps({"pid": os.getpid(), **note}).encode() + b"\n")


def main(pipe_number: int, life: int, notes: int) -> None:
    """Serve orders until the run closes its end of the pipe, given the descriptors of pipe, life line and notes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what an interrupt means
    faulthandler.enable()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    pipe = Frames(socket.socket(fileno=pipe_number))
    threading.Thread(target=_end_with_warden, args=(life,), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        setup: Setup = pickle.loads(pipe.recv_bytes())  # noqa: S301
        sys.path[:] = setup.sys_path if setup.whole else [*setup.sys_path, *sys.path, *setup.spare_path]
        stand_in(setup.main)
        line, steps = Line(pipe, notes), LoadedSteps()
        while True:
            order = line.next_order()
            line.end(_served(order, steps, setup.shelf, line))
    end_family(os.getpid(), spare=os.getpid())


def _end_with_warden(life: int) -> None:
    """Wait for the other end of a pipe to vanish, which happens when the warden dies in whatever way."""
    with contextlib.suppress(OSError):
        while os.read(life, 1):
            pass
    end_family(os.getpid(), spare=os.getpid())
    os.killpg(0, signal.SIGKILL)


def _served(order: Order, steps: LoadedSteps, shelf: Shelf, line: Line) -> Done | Stale:
    secrets = Secrets(order.secrets)
    try:
        with redirected(order.log, secrets):
            outcome = _execute(order, steps, shelf, line, secrets)
        if isinstance(outcome, Stale):
            return outcome
        if outcome.failure is None:
            leave_manifest(order.manifest, outcome)
    except StorageUnavailable as error:
        outcome = Outcome(id=order.id, failure=Failure(kind="storage", message=error.what, mend=error.mend))
    except OSError as error:
        message = f"The log or manifest of the step cannot be written: {error}."
        outcome = Outcome(id=order.id, failure=Failure(kind="storage", message=message, mend="Free room."))
    return Done(outcome=outcome, memory=sample([os.getpid()]).memory)


def _execute(order: Order, steps: LoadedSteps, shelf: Shelf, line: Line, secrets: Secrets) -> Outcome | Stale:
    meter = None
    try:
        step = steps.step(order.parcel)
        code = steps.code(order)
        if order.strict and code != order.code:
            return Stale(id=order.id)
        arguments = decode(order.arguments, shelf)
        line.begin(order)
        meter = Meter()
        with executing(order.context), equipped(step.options.variables, secrets):
            result = step.apply(arguments)
        arguments.clear()  # a large input goes before the output is encoded
        return Outcome(id=order.id, outputs=kept(step, result, shelf, secrets)[1], code=code, usage=meter.read())
    except StorageUnavailable:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is the outcome, and is shown
        sys.stderr.write(trace(error))
        message, mend = secrets.clean(headline(error)), secrets.clean(str(getattr(error, "mend", "")))
        failure = Failure(kind="raised", types=types_of(error), message=message, mend=mend)
        return Outcome(id=order.id, failure=failure, usage=meter.read() if meter else None)
