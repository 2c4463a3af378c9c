"""`run --params`, `runs` with filters and in full, `sweep`, live progress on a terminal, and readers who go away."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FLOW = """
from tidewheel import pipeline, step

@step
def rows(n: int) -> list[int]:
    print("making", n, "rows")
    return list(range(n))

@step
def score(rows: list[int], depth: int, lr: float) -> dict[str, float]:
    if depth == 8:
        print("about to fail")
        raise ValueError("too deep")
    return {"loss": depth * lr, "n": len(rows)}

@pipeline
def grown(n: int = 5, depth: int = 1, lr: float = 0.5):
    return {"worth": score(rows(n), depth, lr)}

@step
def double(x: int) -> int:
    return 2 * x

@pipeline
def many(n: int = 100):
    return double.map(range(n))
"""


def tidewheel(*words: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidewheel", *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done


def read_json(*words: str, cwd: Path, code: int = 0) -> Any:
    return json.loads(tidewheel(*words, "--json", cwd=cwd, code=code).stdout)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


def test_parameters_come_from_a_file_and_the_command_line_wins(project: Path) -> None:
    (project / "p.toml").write_text("depth = 4\nlr = 0.25\n")
    (project / "p.json").write_text('{"depth": 5}')
    run = read_json("run", "flow.py:grown", "--params", "p.toml", "-p", "lr=0.5", cwd=project)
    assert run["parameters"] == {"n": 5, "depth": 4, "lr": 0.5}
    assert read_json("run", "flow.py:grown", "--params", "p.json", cwd=project)["parameters"]["depth"] == 5
    assert read_json("plan", "flow.py:grown", "--params", "p.json", cwd=project)["steps"][0]["action"] == "cached"
    for name, content, hint in (
        ("p.yaml", "depth: 4", "neither .toml nor .json"),
        ("q.toml", "depth =", "cannot be read"),
        ("q.json", "[1]", "holds a list"),
        ("r.toml", "dept = 4", "depth"),
    ):
        (project / name).write_text(content)
        assert hint in tidewheel("run", "flow.py:grown", "--params", name, cwd=project, code=1).stderr
    assert "p.toml" in tidewheel("run", "flow.py:grown", "--params", "pp.toml", cwd=project, code=1).stderr


def test_runs_are_found_by_what_they_were(project: Path) -> None:
    first = read_json("run", "flow.py:grown", "-p", "depth=4", cwd=project)["id"]
    tidewheel("run", "flow.py:grown", "-p", "depth=8", cwd=project, code=1)
    other = read_json("run", "flow.py:many", "-p", "n=3", cwd=project)["id"]

    def found(*words: str) -> list[str]:
        return [run["id"] for run in read_json("runs", *words, cwd=project)]

    assert len(found()) == 3
    assert found("--pipeline", "many") == [other]
    assert found("--param", "depth=4") == [first]
    assert found("--state", "succeeded") == [other, first]
    assert found("--state", "FAILED", "--state", "SUCCEEDED", "--limit", "1") == [other]
    assert found("--cause", "manual", "--pipeline", "grown", "--param", "depth=4") == [first]
    assert len(found("--since", "1h")) == 3
    assert found("--since", "2999-01-01") == []
    assert "No run fits" in tidewheel("runs", "--pipeline", "none", cwd=project).stdout
    assert "FINISHED" in tidewheel("runs", "--state", "finished", cwd=project, code=1).stderr
    assert "2026-03-02" in tidewheel("runs", "--since", "soon", cwd=project, code=1).stderr


def test_a_run_is_told_in_full(project: Path) -> None:
    tidewheel("run", "flow.py:grown", "-p", "depth=4", cwd=project)
    again = read_json("run", "flow.py:grown", "-p", "depth=6", cwd=project)
    told = tidewheel("runs", again["id"][-12:], cwd=project).stdout
    for words in (
        "of grown: SUCCEEDED",
        "depth=6",
        "CACHED",
        "answered by",
        "COMMITTED",
        '"loss": 3.0',
        "tidewheel why",
    ):
        assert words in told, told
    tidewheel("run", "flow.py:grown", "-p", "depth=8", cwd=project, code=1)
    failed = read_json("runs", "--state", "failed", cwd=project)[0]["id"]
    told = tidewheel("runs", failed, cwd=project).stdout
    for words in ("FAILED", "too deep", "log of score", "about to fail"):
        assert words in told, told
    assert [step["state"] for step in read_json("runs", failed, cwd=project)["steps"]] == ["CACHED", "FAILED"]
    assert "tidewheel runs" in tidewheel("runs", "0123abcd", cwd=project, code=1).stderr


def test_many_calls_of_a_step_share_a_line(project: Path) -> None:
    run = read_json("run", "flow.py:many", cwd=project)
    told = tidewheel("runs", run["id"], cwd=project).stdout
    assert "double x100" in told
    assert "double-50" not in told


def test_a_sweep_tells_which_point_did_best_and_goes_on_with_what_failed(project: Path) -> None:
    words = ("sweep", "flow.py:grown", "--grid", "depth=4,6,8", "--grid", "lr=0.1,0.01", "--by", "worth.loss")
    first = read_json(*words, cwd=project, code=1)
    assert [(point["parameters"]["depth"], point["state"]) for point in first["points"]][3:] == [
        ("6", "SUCCEEDED"), ("8", "FAILED"), ("8", "FAILED"),
    ]  # fmt: skip
    (project / "flow.py").write_text(FLOW.replace("depth == 8", "depth == 88"))
    second = read_json(*words, "--largest", cwd=project)
    assert second["id"] == first["id"]
    assert [point["parameters"]["depth"] for point in second["points"]] == ["8", "6", "4", "8", "6", "4"]
    table = tidewheel(*words, cwd=project).stdout
    assert "worth.loss" in table
    assert "6 points" in table
    for wrong, hint in (
        (("--grid", "depth"), "name=value"),
        (("--grid", "depth=1,1"), "twice"),
        (("--grid", "depth=a"), "not int"),
        (("--grid", "dept=1"), "depth"),
        (("--grid", "depth=[1"), "JSON list"),
        (("--grid", "depth=1", "--grid", "depth=2"), "twice"),
    ):
        assert hint in tidewheel("sweep", "flow.py:grown", *wrong, cwd=project, code=1).stderr


@pytest.mark.parametrize(
    "command", ["runs 2>&1 | head -n 0", "run flow.py:many -p n=300 2>&1 | head -n 1", "runs --json | head -c 1"]
)
def test_a_reader_who_goes_away_gets_no_complaint(command: str, project: Path) -> None:
    tidewheel("run", "flow.py:many", cwd=project)
    shell = f"{sys.executable} -m tidewheel {command}; true"
    done = subprocess.run(["bash", "-c", shell], cwd=project, capture_output=True, text=True, check=True)
    assert "Broken" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert {run["state"] for run in read_json("runs", cwd=project)} == {"SUCCEEDED"}


@pytest.mark.parametrize("words", [("runs",), ("runs", "--json"), ("--help",), ("plan", "flow.py:many")])
def test_a_reader_who_was_never_there_is_no_failure(words: tuple[str, ...], project: Path) -> None:
    tidewheel("run", "flow.py:many", cwd=project)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tidewheel", *words]
    done = subprocess.run(command, cwd=project, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def on_terminal(*words: str, cwd: Path) -> str:
    """Run a command whose standard error is a terminal, and return all that it drew."""
    reader, writer = pty.openpty()
    drawn = b""
    child = subprocess.Popen(
        [sys.executable, "-m", "tidewheel", *words], cwd=cwd, stdout=subprocess.DEVNULL, stderr=writer,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
    )  # fmt: skip
    os.close(writer)
    while True:
        try:
            part = os.read(reader, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        drawn += part
    os.close(reader)
    assert child.wait() == 0, drawn.decode()
    return drawn.decode()


def test_a_terminal_shows_a_table_in_place_and_a_pipe_plain_lines(project: Path) -> None:
    drawn = on_terminal("run", "flow.py:grown", cwd=project)
    assert "\x1b[" in drawn
    assert "committed" in drawn
    assert "succeeded" in drawn
    assert "100 committed" in on_terminal("run", "flow.py:many", cwd=project)
    plain = tidewheel("run", "flow.py:grown", cwd=project).stderr
    assert "\x1b" not in plain
    assert [line.split()[0] for line in plain.splitlines()] == ["running", "cached", "cached", "succeeded"]
    assert tidewheel("run", "flow.py:grown", "--json", cwd=project).stderr == ""
