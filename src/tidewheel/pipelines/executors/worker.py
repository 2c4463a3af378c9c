"""The child process: takes tasks from a pipe, reads and writes blobs, leaves a manifest, sends the outcome."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tidewheel.errors import StorageUnavailable
from tidewheel.fingerprint.code import code_digest
from tidewheel.pipelines.active import StepContext, executing
from tidewheel.pipelines.executors.seam import Failure, Outcome, kept, types_of
from tidewheel.pipelines.logs import headline, redirected, trace
from tidewheel.pipelines.secrets import Secrets, equipped
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored, stored_from
from tidewheel.pipelines.target import load_step
from tidewheel.pipelines.tree import decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker is told when it starts."""

    sys_path: list[str]  # where modules are found
    shelf: Shelf  # where values are


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A task on its way to a worker: pure data."""

    id: str  # execution of the call
    step: bytes  # pickled (module, name, file), or the pickled step itself where it has no importable module
    by_value: bool  # which of the two
    arguments: Stored  # the arguments by name, one tree
    context: StepContext  # what the step may know
    code: str  # digest of the code closure that the parent sees
    strict: bool  # refuse to execute when the code here differs
    log: Path  # where its output goes
    manifest: Path  # where the outcome is left, for the case that the parent dies
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)  # by name; they travel in this order alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Says that imports are done and the step's own time begins."""

    id: str  # of the task


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Says that this worker has loaded other code than the parent; nothing was executed."""

    id: str  # of the task


def main() -> None:
    """Serve tasks until the parent closes its end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    faulthandler.enable()
    pipe, life = Connection(int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_die_with_parent, args=(life,), daemon=True).start()
    setup: Setup = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from the parent, over its own pipe
    sys.path[:] = setup.sys_path
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            order: Order = pickle.loads(pipe.recv_bytes())  # noqa: S301
            pipe.send_bytes(pickle.dumps(_serve(order, setup.shelf, pipe)))


def _die_with_parent(life: int) -> None:
    """Wait for the other end of a pipe to vanish, which happens when the parent dies in whatever way."""
    with contextlib.suppress(OSError):
        while os.read(life, 1):
            pass
    os.killpg(0, signal.SIGKILL)


def _serve(order: Order, shelf: Shelf, pipe: Connection) -> Outcome | Stale:
    try:
        secrets = Secrets(order.secrets)
        with redirected(order.log, secrets):
            outcome = _execute(order, shelf, pipe, secrets)
        if isinstance(outcome, Outcome) and outcome.failure is None:
            leave_manifest(order.manifest, outcome)
    except StorageUnavailable as error:
        return Outcome(id=order.id, failure=Failure(kind="storage", message=error.what, mend=error.mend))
    except OSError as error:
        message = f"The log or manifest of the step cannot be written: {error}."
        return Outcome(id=order.id, failure=Failure(kind="storage", message=message, mend="Free room."))
    return outcome


def _execute(order: Order, shelf: Shelf, pipe: Connection, secrets: Secrets) -> Outcome | Stale:
    try:
        step: Step[..., Any] = pickle.loads(order.step) if order.by_value else load_step(*pickle.loads(order.step))  # noqa: S301
        code = code_digest(step).digest
        if order.strict and code != order.code:
            return Stale(id=order.id)
        arguments = decode(order.arguments, shelf)
        pipe.send_bytes(pickle.dumps(Begun(id=order.id)))
        with executing(order.context), equipped(step.options.variables, secrets):
            result = step.apply(arguments)
        return Outcome(id=order.id, outputs=kept(step, result, shelf)[1], code=code)
    except StorageUnavailable:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's code raises is the outcome, and is shown
        sys.stderr.write(trace(error))
        message, mend = secrets.clean(headline(error)), secrets.clean(getattr(error, "mend", ""))
        failure = Failure(kind="raised", types=types_of(error), message=message, mend=mend)
        return Outcome(id=order.id, failure=failure)


def leave_manifest(path: Path, outcome: Outcome) -> None:
    """Write down what a task gave, so that it can be committed even if the parent is dead by now."""
    record = {"id": outcome.id, "code": outcome.code, "outputs": [stored.as_json() for stored in outcome.outputs]}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.replace(path)


def read_manifest(path: Path) -> Outcome | None:
    """Return what a task left behind; None when it did not come so far."""
    try:
        record: Mapping[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    outputs = tuple(stored_from(item) for item in record["outputs"])
    return Outcome(id=record["id"], code=record["code"], outputs=outputs)
