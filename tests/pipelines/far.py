"""Steps for machines far away, and the parts that tests of remote executors share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidewheel.clock import new_id
from tidewheel.fingerprint.code import code_digest
from tidewheel.pipelines.active import StepContext
from tidewheel.pipelines.executors.dispatch import Dispatch, Sent
from tidewheel.pipelines.executors.seam import Outcome, Task
from tidewheel.pipelines.secrets import NONE, Secrets
from tidewheel.pipelines.step import Step

PROJECT = {
    "shore/__init__.py": "",
    "shore/steps.py": """
        from __future__ import annotations
        from tidewheel.pipelines.step import step
        from . import tools
        from tide_tables import HEIGHT

        @step
        def level(x: int) -> int:
            from shore.deep.late import offset
            print("level of", x)
            return tools.scaled(x) + HEIGHT + offset()
        """,
    "shore/tools.py": "from shore.deep.sums import twice\ndef scaled(x):\n    return twice(x)\n",
    "shore/deep/sums.py": "def twice(x):\n    return 2 * x\n",
    "shore/deep/late.py": "def offset():\n    return 1000\n",
    "shore/unrelated.py": "raise RuntimeError('nobody imports this')\n",
    "tide_tables.py": "HEIGHT = 7\n",
}


def write_project(folder: Path, files: Mapping[str, str] = PROJECT) -> Path:
    """Write a user's project."""
    import textwrap

    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a worker process did."""

    code: int  # exit code
    said: str  # its standard output and error


def far_task(
    work: Step[..., Any],
    arguments: Mapping[str, Any],
    folder: Path,
    *,
    attempt: int = 1,
    secrets: Secrets = NONE,
    key: str = "",
) -> Task:
    """Return a task as a run makes it."""
    key = key or new_id()
    return Task(
        id=key,
        step=work,
        arguments=arguments,
        context=StepContext(run_id=new_id(), step=work.name, attempt=attempt, idempotency_key=key),
        code=code_digest(work).digest,
        timeout=work.options.timeout,
        log=folder / f"{key}.log",
        secrets=secrets,
    )


def start_worker(sent: Sent, folder: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the worker's program where it sees nothing of the project."""
    folder.mkdir(exist_ok=True)
    known = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, "-m", "tidewheel.pipelines.executors.remote", *sent.arguments],
        cwd=folder,
        env={**known, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_worker(sent: Sent, folder: Path, environment: Mapping[str, str] | None = None) -> Ended:
    """Run the worker's program to its end."""
    process = start_worker(sent, folder, environment)
    said, _ = process.communicate(timeout=120)
    return Ended(code=process.returncode, said=said)


def answered(dispatch: Dispatch, task: Task, folder: Path, environment: Mapping[str, str] | None = None) -> Outcome:
    """Send a task, have a worker execute it and return the outcome."""
    sent = dispatch.send(task)
    ended = run_worker(sent, folder / "elsewhere", environment)
    outcome = dispatch.answer(sent)
    assert outcome is not None, ended.said
    return outcome


def waited(condition: Any, seconds: float = 60.0) -> bool:
    """Wait until something holds; False when it never did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())
