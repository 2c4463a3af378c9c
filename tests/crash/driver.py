"""Forks one process per order, lets it run or resume the pipeline, and kills it where the order says.

Reads JSON lines: {"url", "home", "blobs", "start", "book", "run", "kill_at", "stop_at", "kill_after", "executor",
"pipeline", "lease", "attempts"}; answers each with {"status": exit code or minus signal, "boundaries": names reached,
"error": what was raised, "stopped": process that waits at `stop_at`}. {"go_on": process} lets that one go on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import SystemClock
from tidewheel.database.database import open_database
from tidewheel.errors import TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.pipelines.approving import Approval, answer_of, record_answer
from tidewheel.pipelines.executors.process import ProcessExecutor
from tidewheel.pipelines.executors.seam import Site
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.runs import resume_run, shelf_of, start_run
from tidewheel.pipelines.target import load_target

STEPS = Path(__file__).with_name("crash_steps.py")
PIPELINES = {name: load_target(f"{STEPS}:{name}") for name in ("tide", "surge", "wait")}
BLOB = b"blob" * 750
STOPPED: dict[int, int] = {}  # process that was stopped, and the pipe on which it reports


def execute(order: dict[str, Any], report: int) -> None:
    """Run or resume; die at the boundary that the order names."""
    store = Store(
        database=open_database(order["url"]),
        blobs=FolderBlobs(Path(order.get("blobs") or order["home"]) / "blobs"),
        clock=SystemClock(),
        home=Path(order["home"]),
        lease_seconds=order.get("lease", 60.0),
    )
    pipeline = PIPELINES[order.get("pipeline", "tide")]
    reached = 0

    def on_boundary(name: str) -> None:
        nonlocal reached
        reached += 1
        os.write(report, f"{name}\n".encode())
        if reached == order.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if reached == order.get("stop_at"):
            os.kill(os.getpid(), signal.SIGSTOP)

    def on_event(event: RunEvent) -> None:
        if event.step and event.state == "WAITING":
            agree(store, event)

    executor: Any = order.get("executor", "inline")
    if order.get("attempts"):  # children whose manifests other controllers see, as those of a cluster are seen
        executor = ProcessExecutor(Site(shelf=shelf_of(store), attempts=Path(order["attempts"]), options={}))
    if order.get("run"):
        resume_run(store, order["run"], pipeline, executor=executor, on_boundary=on_boundary, on_event=on_event)
    else:
        parameters = {"start": order["start"], "blob": BLOB, "book": order["book"]}
        start_run(store, pipeline, parameters, executor=executor, on_boundary=on_boundary, on_event=on_event)


def agree(store: Store, event: RunEvent) -> None:
    """Answer the question of a run with yes, as somebody else would."""
    with store.database.transaction() as tx:
        if answer_of(tx, event.execution_id) is None:
            yes = Approval(granted=True, question="Go on?", by="somebody", at=store.clock.now(), reason="")
            record_answer(tx, event.execution_id, event.run_id, yes)


def forked(order: dict[str, Any]) -> dict[str, Any]:
    """Execute an order in a child, and wait for its end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            execute(order, writing)
            status = 0
        except TidewheelError as error:
            os.write(writing, f"error {type(error).__name__}: {error.what}\n".encode())
        finally:
            os._exit(status)
    os.close(writing)
    if order.get("kill_after") is not None:
        killer = threading.Timer(order["kill_after"], os.kill, (child, signal.SIGKILL))
        killer.start()
        _, raw = os.waitpid(child, 0)
        killer.cancel()
    else:
        _, raw = os.waitpid(child, os.WUNTRACED)
    if os.WIFSTOPPED(raw):
        STOPPED[child] = reading
        return {"stopped": child}
    return ended(raw, reading)


def ended(raw: int, reading: int) -> dict[str, Any]:
    """Return how a child ended and what it reported."""
    with os.fdopen(reading) as pipe:
        lines = pipe.read().splitlines()
    errors = [line.removeprefix("error ") for line in lines if line.startswith("error ")]
    names = [line for line in lines if not line.startswith("error ")]
    return {"status": os.waitstatus_to_exitcode(raw), "boundaries": names, "error": "".join(errors)}


def gone_on(child: int) -> dict[str, Any]:
    """Let a stopped child go on, and wait for its end."""
    os.kill(child, signal.SIGCONT)
    _, raw = os.waitpid(child, 0)
    return ended(raw, STOPPED.pop(child))


def main() -> None:
    """Serve orders until there are no more."""
    import_tables()
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(gone_on(order["go_on"]) if "go_on" in order else forked(order)), flush=True)


if __name__ == "__main__":
    main()
