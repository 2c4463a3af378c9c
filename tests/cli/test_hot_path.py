"""What a run from the command line imports: the run itself, and nothing that only other commands need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FLOW = """
from tidewheel import pipeline, step

@step
def add(x: int) -> int:
    return x + 1

@pipeline
def flow(x: int = 1) -> int:
    return add(x)
"""
# Prints on the last line which modules are loaded after a command.
PROBE = """
import json, sys
sys.argv = ["tidewheel", *sys.argv[1:]]
from tidewheel.cli.main import run
try:
    run()
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(sys.modules)]))
"""
HEAVY = {
    "alembic", "jinja2", "numpy", "onnxruntime", "pandas", "polars", "pyarrow", "scipy", "sklearn", "skops",
    "sqlalchemy", "starlette", "uvicorn", "IPython",
}  # fmt: skip
ROOMS = {"data", "demo", "evaluation", "loop", "models", "monitoring", "registry", "rollout", "serving", "stats", "web"}


def loaded(*words: str, cwd: Path) -> set[str]:
    command = [sys.executable, "-c", PROBE, *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert not code, done.stderr
    return set(modules)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("run", "flow.py:flow"),
        ("run", "flow.py"),
        ("runs",),
        ("runs", "--json"),
        ("plan", "flow.py:flow"),
        ("sweep", "flow.py:flow", "--grid", "x=1,2"),
    ],
    ids=" ".join,
)
def test_a_command_about_runs_imports_no_other_room(words: tuple[str, ...], project: Path) -> None:
    loaded("run", "flow.py:flow", "-p", "x=5", cwd=project)  # the store is made by the first command of a project
    modules = loaded(*words, cwd=project)
    assert sorted(name for name in HEAVY if name in modules) == []
    assert sorted(room for room in ROOMS if f"tidewheel.{room}" in modules) == []


def test_what_the_users_file_imports_is_there(project: Path) -> None:
    (project / "flow.py").write_text("import numpy\n" + FLOW)
    assert "numpy" in loaded("run", "flow.py:flow", cwd=project)


def test_a_loop_is_still_run_by_its_pipeline(project: Path) -> None:
    made = "@pipeline\ndef made(rows: int):\n    return add(rows)\n\n"
    loop = made + 'loop = Loop(made, model="m", data="d", label="y", on=[])\n'
    (project / "flow.py").write_text("from tidewheel import Loop\n" + FLOW + loop)
    assert "tidewheel.loop.loop" in loaded("run", "flow.py:loop", "-p", "rows=3", cwd=project)
