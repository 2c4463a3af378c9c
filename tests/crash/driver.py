"""Forks one process per order, lets it run or resume the pipeline, and kills it where the order says.

Reads JSON lines: {"url", "home", "start", "book", "run", "kill_at", "kill_after", "executor"}; answers each with
{"status": exit code or minus signal, "boundaries": names reached}.
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
from tidewheel.lineage.store import Store
from tidewheel.pipelines.runs import resume_run, start_run
from tidewheel.pipelines.target import load_target

PIPELINE = load_target(f"{Path(__file__).with_name('crash_steps.py')}:tide")
BLOB = b"blob" * 750


def execute(order: dict[str, Any], report: int) -> None:
    """Run or resume; die at the boundary that the order names."""
    store = Store(
        database=open_database(order["url"]),
        blobs=FolderBlobs(Path(order["home"]) / "blobs"),
        clock=SystemClock(),
        home=Path(order["home"]),
    )
    reached = 0

    def on_boundary(name: str) -> None:
        nonlocal reached
        reached += 1
        os.write(report, f"{name}\n".encode())
        if reached == order.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    executor = order.get("executor", "inline")
    if order.get("run"):
        resume_run(store, order["run"], PIPELINE, executor=executor, on_boundary=on_boundary)
    else:
        parameters = {"start": order["start"], "blob": BLOB, "book": order["book"]}
        start_run(store, PIPELINE, parameters, executor=executor, on_boundary=on_boundary)


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
        finally:
            os._exit(status)
    os.close(writing)
    if order.get("kill_after") is not None:
        killer = threading.Timer(order["kill_after"], os.kill, (child, signal.SIGKILL))
        killer.start()
        _, raw = os.waitpid(child, 0)
        killer.cancel()
    else:
        _, raw = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        names = pipe.read().split()
    return {"status": os.waitstatus_to_exitcode(raw), "boundaries": names}


def main() -> None:
    """Serve orders until there are no more."""
    import_tables()
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
