"""Runs pipelines in fresh processes: one driver has imported the platform and forks a child for each order.

Reads JSON lines: {"home", "url", "paths", "folder", "target", "parameters" (Python text by name), "code" (executed
first), "executor"}; answers each with {"states", "planned", "why", "output", "error", "status"}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tidewheel.app import open_store, plan_pipeline, run_pipeline
from tidewheel.errors import TidewheelError
from tidewheel.pipelines.runs import list_runs
from tidewheel.pipelines.why import why
from tidewheel.settings import Settings


def execute(order: dict[str, Any]) -> dict[str, Any]:
    """Run a pipeline as a user's process does."""
    os.chdir(order["folder"])
    sys.path[:0] = order["paths"]
    sys.dont_write_bytecode = True
    names: dict[str, Any] = {"polars": pl, "pl": pl, "np": np, "Path": Path}
    parameters = {name: eval(text, names) for name, text in order["parameters"].items()}  # the tests' own text
    store = open_store(Settings(home=Path(order["home"]), database_url=order.get("url", "")))
    exec(order.get("code", ""), {"store": store})
    try:
        planned = plan_pipeline(store, order["target"], parameters)
        run = run_pipeline(store, order["target"], parameters, executor=order.get("executor", "inline"))
    except TidewheelError as error:
        return {"error": str(error), "runs": [found.state for found in list_runs(store)]}
    return {
        "states": {step.name: str(step.state) for step in run.steps},
        "planned": {step.step: [step.action, step.reason] for step in planned.steps},
        "why": why(store, run.id).lines(),
        "output": repr(run.output),
        "run": run.id,
    }


def forked(order: dict[str, Any], answers: Any) -> int:
    """Begin an order in a child; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        found = execute(order)
        os.write(answers, (json.dumps(found) + "\n").encode())
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a forked child must not go on as its parent
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def main() -> None:
    """Serve orders until there are no more."""
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        child = forked(order, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, raw = os.waitpid(child, 0)
        answer = json.loads(text) if text else {}
        print(json.dumps(answer | {"status": os.waitstatus_to_exitcode(raw)}), flush=True)


if __name__ == "__main__":
    main()
