"""The command line: every verb on a real store, JSON where asked for, errors without a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = """
import polars as pl
from sklearn.linear_model import LinearRegression
from tidewheel import Loop, Model, pipeline, step, triggers

@step
def clean(rows: pl.DataFrame) -> pl.DataFrame:
    print("cleaning", rows.height)
    return rows.drop_nulls()

@step
def fit(rows: pl.DataFrame, power: int = 1) -> Model:
    if power > 9:
        raise ValueError("too strong")
    x = rows.drop("y")
    return Model(LinearRegression().fit(x, rows["y"]), example=x)

@pipeline
def line(rows: pl.DataFrame, power: int = 1) -> Model:
    return fit(clean(rows), power)

loop = Loop(line, model="line", data="points", label="y", on=[triggers.new_data(rows=50)])
not_a_pipeline = 3
"""


def tidewheel(*words: str, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tidewheel", *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "/tidewheel/" not in done.stderr, done.stderr  # no line of our own source: that would be a traceback
    return done.stdout if code == 0 else done.stdout + done.stderr


def read_json(*words: str, cwd: Path) -> Any:
    return json.loads(tidewheel(*words, "--json", cwd=cwd))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "line.py").write_text(PROJECT)
    rows = "\n".join(f"{n},{n % 7},{3 * n + n % 7}" for n in range(200))
    (tmp_path / "points.csv").write_text(f"a,b,y\n{rows}\n")
    return tmp_path


@pytest.mark.slow
def test_a_project_goes_from_file_to_rollback(project: Path) -> None:
    kept = read_json("data", "register", "points", "points.csv", "--label", "y", cwd=project)
    assert (kept["name"], kept["seq"], kept["rows"]) == ("points", 1, 200)
    assert [item["name"] for item in read_json("data", "list", cwd=project)] == ["points"]
    assert "a" in tidewheel("data", "profile", "points", cwd=project)
    assert "label" in tidewheel("data", "schema", "points", cwd=project)
    assert "Nothing was found wrong" in tidewheel("data", "findings", "points", cwd=project)

    planned = read_json("plan", "line.py:line", "-p", "rows=points", cwd=project)
    assert planned["steps"], planned
    done = read_json("run", "line.py:line", "-p", "rows=points", cwd=project)
    assert done["state"] == "SUCCEEDED"
    again = read_json("run", "line.py:line", "-p", "rows=points", cwd=project)
    assert {step["state"] for step in again["steps"]} == {"CACHED"}
    changed = read_json("run", "line.py:line", "-p", "rows=points", "-p", "power=2", cwd=project)
    assert [step["state"] for step in changed["steps"]] == ["CACHED", "COMMITTED"]
    assert len(read_json("runs", cwd=project)) == 3
    assert "power" in tidewheel("why", changed["id"], cwd=project)
    assert "line.fit" in tidewheel("lineage", "points", "--down", cwd=project)

    report = read_json("loop", "tick", "line.py:loop", cwd=project)
    assert report["trained"]["ending"] == "deployed", report
    tidewheel("loop", "trigger", "line", "--reason", "a new supplier", cwd=project)
    second = read_json("loop", "tick", "line.py:loop", cwd=project)
    assert second["cause"]["trigger"] == "manual", second
    assert [item["seq"] for item in read_json("models", "versions", "line", cwd=project)["versions"]] == [2, 1]
    assert "Version 1 of line answers" in tidewheel("models", "rollback", "line", cwd=project)
    assert "Version 2 of line answers" in tidewheel("models", "promote", "line", "2", cwd=project)
    assert "version 2 answers" in tidewheel("loop", "status", cwd=project)
    assert "champion" in tidewheel("models", "history", "line", cwd=project)
    assert "no alert" in tidewheel("alerts", "line", cwd=project)
    assert read_json("audit", cwd=project)["intact"] is True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("data", "schema", "pints"), "no dataset"),
        (("data", "register", "points", "point.csv"), "points.csv"),
        (("data", "register", "my points", "points.csv"), "Use letters"),
        (("run", "line.py:lime"), "line"),
        (("run", "lime.py:line"), "line.py"),
        (("run", "line.py:not_a_pipeline"), "@pipeline"),
        (("run", "line.py:line"), "rows"),
        (("run", "line.py:line", "-p", "rows"), "name=value"),
        (("why", "0123"), "tidewheel runs"),
        (("models", "versions", "line"), "no model"),
        (("models", "promote", "line", "3"), "no model"),
        (("loop", "trigger", "line"), "tidewheel up"),
        (("lineage", "nothing"), "dataset, model or run"),
        (("serve", "--host", "0.0.0.0"), "public = true"),
        (("demo", "--data", "points.csv"), "--label"),
        (("demo", "--sabotage", "everything"), "labels or serving"),
        (("up", "line.py:line"), "Loop"),
    ],
)
def test_mistakes_are_answered_with_their_mend(project: Path, words: tuple[str, ...], hint: str) -> None:
    said = tidewheel(*words, cwd=project, code=1)
    assert hint in said
    assert said.startswith("error: ")


@pytest.mark.slow
def test_a_failing_step_is_named_with_its_log(project: Path) -> None:
    tidewheel("data", "register", "points", "points.csv", "--label", "y", cwd=project)
    said = tidewheel("run", "line.py:line", "-p", "rows=points", "-p", "power=10", cwd=project, code=1)
    assert "fit" in said
    assert "too strong" in said
    assert json.loads(tidewheel("runs", "--json", cwd=project))[0]["state"] == "FAILED"


@pytest.mark.slow
def test_errors_are_json_where_json_was_asked_for(project: Path) -> None:
    said = json.loads(tidewheel("data", "schema", "points", "--json", cwd=project, code=1))
    assert said["kind"] == "NotFound"
    assert said["mend"]


def test_every_command_has_help_with_an_example() -> None:
    import typer

    from tidewheel.cli.main import cli

    root = typer.main.get_command(cli)
    groups: list[Any] = [root]
    seen = 0
    while groups:
        for command in groups.pop().commands.values():
            assert command.help, command.name
            if hasattr(command, "commands"):
                groups.append(command)
                continue
            assert command.epilog, command.name
            assert command.epilog.startswith("Example: tidewheel "), command.name
            seen += 1
    assert seen > 20
