"""A warm child that executes orders for a worker which has to outlive them, such as one of Ray.

Orders go down its standard input as lines of JSON, words come up a pipe; at the end of the input it ends with
everything that its steps have started, so that a worker that is killed leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.open import open_blobs
from tidewheel.errors import InvalidInput, StorageUnavailable, TidewheelError
from tidewheel.pipelines.executors.attempts import attempts_beside
from tidewheel.pipelines.executors.family import adopt_orphans, end_family
from tidewheel.pipelines.executors.passing import PassingBlobs
from tidewheel.pipelines.executors.remote import serve

_PROGRAM = "from tidewheel.pipelines.executors.remote_child import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What became of an order."""

    manifest: bytes  # what the step's process left; b"" for nothing
    death: str  # how the process ended, when it did
    written: Mapping[str, bytes]  # blobs by digest, for the steps after


def execute(order: list[str], limit: int, held: tuple[Mapping[str, bytes], ...]) -> Executed:
    """Execute an order in the warm child of this process, with blobs that came along.

    Raises StorageUnavailable and InvalidInput for an order that cannot be answered at all.
    """
    with tempfile.TemporaryDirectory(prefix="tidewheel-") as folder:
        at_hand, written = FolderBlobs(Path(folder, "in")), FolderBlobs(Path(folder, "out"))
        for data in (data for blobs in held for data in blobs.values()):
            at_hand.put(data)
        child = _warm_child()
        said = child.serve({"order": order, "folder": folder, "limit": limit})
        if said is None:
            _warm_child.cache_clear()
        elif said:
            kind = StorageUnavailable if said["storage"] else InvalidInput
            raise kind(said["what"], said["mend"])
        manifest = attempts_beside(open_blobs(order[0])).read(order[2]) or b""
        copies = {blob.digest: written.get(blob.digest) for blob in written.kept()} if said is not None else {}
    return Executed(manifest=manifest, death=child.death() if said is None else "", written=copies)


@functools.cache
def _warm_child() -> Child:
    return Child()


class Child:
    """A child process that executes one order after the other."""

    def __init__(self) -> None:
        reads, writes = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, "-c", _PROGRAM, str(writes)],
            stdin=subprocess.PIPE,
            pass_fds=(writes,),
            start_new_session=True,
        )
        os.close(writes)
        self._words = os.fdopen(reads, "rb")

    def serve(self, order: Mapping[str, object]) -> dict[str, Any] | None:
        """Return {} when the order was served, an error's parts when it could not be, None when the child died."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
        line = self._words.readline()
        said: dict[str, Any] | None = json.loads(line) if line else None
        return said

    def death(self) -> str:
        """Return how the child ended."""
        return death_of(self._process.wait())


def death_of(code: int) -> str:
    """Return what a process's exit code says.

    >>> death_of(-9), death_of(7)
    ('was killed by SIGKILL', 'exited with code 7')
    """
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}"


def main() -> None:
    """Execute orders until the worker that sends them is gone."""
    _guarded()
    faulthandler.enable()
    adopt_orphans()
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(orders,), daemon=True).start()
    with os.fdopen(int(sys.argv[1]), "wb", 0) as words:
        while True:
            words.write(json.dumps(_served(json.loads(orders.get()))).encode() + b"\n")


def _guarded() -> None:
    """Go on in a fork, whose end the process that was started passes on.

    Ray kills the children of a worker that it ends, and them alone: what does the work must be no child of it, so
    that it lives to see the end of its input and ends everything below.
    """
    pid = os.fork()
    if pid == 0:
        return
    os.close(int(sys.argv[1]))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def _read(orders: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        orders.put(line)
    end_family(os.getpid(), spare=os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def _served(order: Mapping[str, Any]) -> dict[str, Any]:
    url, digest, manifest = order["order"]
    folder = order["folder"]
    try:
        blobs = PassingBlobs(
            open_blobs(url),
            FolderBlobs(Path(folder, "in")),
            FolderBlobs(Path(folder, "out")),
            order["limit"],
        )
        serve(blobs, digest, manifest)
    except TidewheelError as error:
        return {"what": error.what, "mend": error.mend, "storage": isinstance(error, StorageUnavailable)}
    return {}
