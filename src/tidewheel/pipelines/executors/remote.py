"""The worker far away: needs only the blob store. Reads an order, runs the step, leaves a manifest.

`python -m tidewheel.pipelines.executors.remote <blob url> <digest of the order> <name of the manifest>`
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from tidewheel.blobs.open import open_blobs
from tidewheel.blobs.store import BlobStore, hex_of
from tidewheel.errors import InvalidInput, StorageUnavailable, TidewheelError
from tidewheel.fingerprint.code import code_digest
from tidewheel.pipelines.active import executing
from tidewheel.pipelines.executors.attempts import attempt_number, attempts_beside
from tidewheel.pipelines.executors.family import adopt_orphans, end_family
from tidewheel.pipelines.executors.loaded import project_digest
from tidewheel.pipelines.executors.remote_order import Answer, RemoteOrder, Shipped, order_from
from tidewheel.pipelines.executors.seam import Failure, Outcome, kept, types_of
from tidewheel.pipelines.executors.usage import Meter
from tidewheel.pipelines.logs import headline, redirected, trace
from tidewheel.pipelines.secrets import Secrets, equipped
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.target import load_step
from tidewheel.pipelines.tree import decode

_LONGEST_LOG = 16 * 1024 * 1024  # bytes kept of what a step prints: the end of it
_GRACE = 5.0  # seconds between the end of a step that heeds its timeout and of one that lets nobody else run
_SECONDS = 1.0  # pause between looks at the log for what to pass on to the container's own output


def main(arguments: list[str] | None = None) -> int:
    """Execute one order; returns 0 when a manifest tells how it went, 3 when none could be left."""
    url, digest, manifest = arguments if arguments is not None else sys.argv[1:]
    faulthandler.enable()
    adopt_orphans()
    try:
        serve(open_blobs(url), digest, manifest)
    except TidewheelError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    return 0


def serve(blobs: BlobStore, digest: str, manifest: str) -> bytes:
    """Execute the order of a digest, leave its manifest beside the blobs and return what it says.

    Raises StorageUnavailable, MissingBlob, CorruptBlob when there is nobody to tell it to.
    """
    attempts = attempts_beside(getattr(blobs, "behind", blobs))
    order = order_from(blobs.get(digest))
    with tempfile.TemporaryDirectory(prefix="tidewheel-") as folder:
        secrets = Secrets({name: os.environ.get(name, "") for name in order.secrets})
        shelf = Shelf(blobs=blobs, files=Path(folder, "files"))
        work = _Attempt(order=order, shelf=shelf, secrets=secrets, log=Path(folder, "log"), meter=Meter())
        number = attempt_number(manifest)

        def overdue() -> None:
            attempts.leave(manifest, work.answer(_overdue(order), number).written())

        with _passed_on(work.log), redirected(work.log, work.secrets):
            outcome = work.execute(overdue)
        answer = work.answer(outcome, number).written()
        attempts.leave(manifest, answer)  # whoever was first is right: the same attempt, executed twice
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    order: RemoteOrder  # what to do
    shelf: Shelf  # where values are
    secrets: Secrets  # what the step may read
    log: Path  # file with what it prints
    meter: Meter  # counts what is used from now on

    def execute(self, overdue: Callable[[], None]) -> Outcome:
        """Return what becomes of the step."""
        order = self.order
        try:
            self._check_secrets()
            step = self._step()
            code = self._code(step)
            arguments = decode(order.arguments, self.shelf)
            with (
                _ended_after(order.timeout, overdue),
                executing(order.context),
                equipped(order.variables, self.secrets),
            ):
                result = step.apply(arguments)
            arguments.clear()  # a large input goes before the output is encoded
            return Outcome(id=order.id, outputs=kept(step, result, self.shelf, self.secrets)[1], code=code)
        except StorageUnavailable as error:
            return self._failed("storage", error, error.what)
        except _Refused as error:
            return self._failed("unusable", error, error.what)
        except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is the outcome, and is shown
            sys.stderr.write(trace(error))
            return self._failed("raised", error, headline(error))

    def answer(self, outcome: Outcome, number: int) -> Answer:
        """Return the outcome with what was used and printed, without secrets."""
        outcome = replace(outcome, usage=self.meter.read())
        printed = _end_of(self.log)
        try:
            log = self.shelf.blobs.put(printed) if printed else ""
        except StorageUnavailable:
            log = ""  # the outcome says that there is no room
        return Answer(outcome=outcome, attempt=number, log=log)

    def _failed(self, kind: Any, error: BaseException, message: str) -> Outcome:
        message, mend = self.secrets.clean(message), self.secrets.clean(getattr(error, "mend", ""))
        failure = Failure(kind=kind, types=types_of(error), message=message, mend=mend)
        return Outcome(id=self.order.id, failure=failure)

    def _check_secrets(self) -> None:
        missing = [name for name, text in self.secrets.revealed().items() if not text]
        if missing:
            raise _Refused(
                f"The worker's environment has no secret {', '.join(missing)}.",
                "Set it where the controller runs (Ray), or name its Kubernetes secret in the executor's table.",
            )

    def _step(self) -> Step[..., Any]:
        shipped = self.order.step
        try:
            root = _unpacked(shipped, self.shelf.blobs)
            if shipped.pickled:
                loaded: Step[..., Any] = pickle.loads(self.shelf.blobs.get(shipped.pickled))  # noqa: S301 - from our own controller, by digest
                return loaded
            return load_step(shipped.module, shipped.name, str(Path(root, shipped.file)) if shipped.file else None)
        except ModuleNotFoundError as error:
            raise _Refused(
                f"The worker has no module {error.name!r}, which {shipped.name} imports.",
                "Install it in the worker's image or environment; a module of the project that is imported by a "
                f'computed name is shipped with @step(code=["{error.name}"]).',
            ) from error

    def _code(self, step: Step[..., Any]) -> str:
        """Return the digest of the code that is executed here; says what differs from the controller's."""
        order = self.order
        here = code_digest(step)
        if here.digest == order.code or (order.project and project_digest(here) == order.project):
            return order.code
        expected = order.step.parts
        names = sorted(name for name in {**expected, **here.parts} if expected.get(name) != here.parts.get(name))
        if order.step.pickled:
            # Code that came by value has no file here, so that its digest is another one; packages have versions.
            names = [name for name in names if _is_version(name, expected) or _is_version(name, here.parts)]
        if not names:
            return order.code
        told = "; ".join(_difference(name, expected, here.parts) for name in names[:5])
        if order.strict:
            raise _Refused(
                f"The worker's code differs from the controller's: {told}.",
                "Give the worker the same Python and packages, or drop strict from the executor's table.",
            )
        sys.stderr.write(f"The worker's code differs, so that its answer is not cached: {told}.\n")
        return here.digest


class _Refused(InvalidInput):
    """The order cannot be executed here."""


def _overdue(order: RemoteOrder) -> Outcome:
    message = f"it ran longer than its timeout of {order.timeout:g} s and was ended"
    mend = "Give it more time (@step(timeout=...)) or less to do."
    return Outcome(id=order.id, failure=Failure(kind="timeout", message=message, mend=mend))


@contextlib.contextmanager
def _ended_after(timeout: float | None, overdue: Callable[[], None]) -> Iterator[None]:
    """End this process when the block takes too long; code that never lets another thread run is ended a bit later."""
    if timeout is None:
        yield
        return
    inside = threading.Event()

    def watch() -> None:
        if not inside.wait(timeout):
            try:
                overdue()
            finally:
                end_family(os.getpid(), spare=os.getpid())
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    faulthandler.dump_traceback_later(timeout + _GRACE, exit=True)
    try:
        yield
    finally:
        inside.set()
        faulthandler.cancel_dump_traceback_later()


def _unpacked(shipped: Shipped, blobs: BlobStore) -> Path:
    """Put the bundle at the front of sys.path; a warm process has it there already."""
    if not shipped.bundle:
        return Path()
    mark = f"-{hex_of(shipped.bundle)}"
    for place in sys.path:
        if place.endswith(mark):
            return Path(place)
    from tidewheel.pipelines.executors.bundle import unpack

    folder = Path(tempfile.mkdtemp(prefix="tidewheel-", suffix=mark))
    unpack(blobs.get(shipped.bundle), folder)
    sys.path.insert(0, str(folder))
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_version(name: str, parts: Mapping[str, str]) -> bool:
    return name == "python" or "==" in parts.get(name, "")


def _difference(name: str, there: Mapping[str, str], here: Mapping[str, str]) -> str:
    if _is_version(name, there) or _is_version(name, here):
        return f"{name} is {here.get(name, 'missing')} there and {there.get(name, 'missing')} here"
    return f"{name} is not the same"


def _end_of(log: Path) -> bytes:
    try:
        size = log.stat().st_size
        with log.open("rb") as file:
            file.seek(max(0, size - _LONGEST_LOG))
            data = file.read()
    except OSError:
        return b""
    return b"(the beginning was dropped)\n" + data if size > _LONGEST_LOG else data


@contextlib.contextmanager
def _passed_on(log: Path) -> Iterator[None]:
    """Copy a growing log to this process's own output, so that `kubectl logs` shows it as it grows."""
    log.touch()
    ended = threading.Event()
    with os.fdopen(os.dup(1), "wb", 0) as out:
        follower = threading.Thread(target=_follow, args=(log, out, ended), daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()


def _follow(log: Path, out: IO[bytes], ended: threading.Event) -> None:
    with log.open("rb") as file, contextlib.suppress(OSError):
        last = False
        while not last:
            last = ended.wait(_SECONDS)
            while data := file.read(65_536):
                out.write(data)


if __name__ == "__main__":
    sys.exit(main())
