"""`tidewheel keys` and `tidewheel log` from a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import Outcome, Prediction
from tidewheel.predictions.segments import log_folder
from tidewheel.servers import start_compaction
from tidewheel.settings import Settings


def run(home: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidewheel", *words, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables, timeout=60)


def write(home: Path, count: int, size: int = 300) -> None:
    folder = log_folder(home, "bikes")
    log = LogWriter(folder, "w0", segment_bytes=size)
    truth = LogWriter(folder, "w0", kind=Outcome)
    for number in range(count):
        log.append(
            Prediction(
                id=f"r{number}", at=number, model="bikes", version=1, arm="champion", propensity=1.0, unit="",
                status=200, features=[], output=[number],
            )
        )  # fmt: skip
        log.flush()
    truth.append(Outcome(id="r3", at=5, label=7))
    truth.close()
    log.close()


def test_a_key_is_printed_once_listed_and_revoked(tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "create", "shop", "--model", "bikes", "--verb", "read", "--expires", "90d")
    secret = made.stdout.strip()
    assert (secret[:3], len(secret)) == ("tw_", 46)
    assert "not shown again" in made.stderr
    assert "90" in run(tmp_path, "keys", "create", "x", "--expires", "soon").stderr
    assert "revoked" in run(tmp_path, "keys", "revoke", "shop").stdout
    (listed,) = json.loads(run(tmp_path, "keys", "list", "--json").stdout)
    assert (listed["name"], listed["models"], listed["revoked"] is not None) == ("shop", ["bikes"], True)
    assert secret not in run(tmp_path, "keys", "list").stdout


@pytest.mark.parametrize("command", [("serve", "--host", "0.0.0.0", "--port", "0")])
def test_other_machines_are_not_answered_without_a_key(tmp_path: Path, command: tuple[str, ...]) -> None:
    alone = run(tmp_path, *command)
    assert (alone.returncode, "public = true" in alone.stderr) == (1, True)
    without = run(tmp_path, *command, TIDEWHEEL_PUBLIC="true")
    assert (without.returncode, "TIDEWHEEL_API_KEY" in without.stderr) == (1, True)
    weak = run(tmp_path, *command, TIDEWHEEL_PUBLIC="true", TIDEWHEEL_API_KEY="hunter2")
    assert (weak.returncode, "hunter2" in weak.stderr) == (1, False)


def test_the_log_is_followed_compacted_and_exported(tmp_path: Path) -> None:
    write(tmp_path, 12)
    lines = run(tmp_path, "log", "tail", "bikes", "-n", "2").stdout.splitlines()
    assert [line.split()[-2:] for line in lines] == [["r10", "10"], ["r11", "11"]]
    child = start_compaction(Settings(home=tmp_path))
    assert child is not None
    assert child.wait(60) == 0
    assert start_compaction(Settings(home=tmp_path)) is None
    assert list(log_folder(tmp_path, "bikes").glob("parquet/day=1970-01-01/predictions-*.parquet"))
    assert run(tmp_path, "log", "tail", "bikes", "-n", "99").stdout.count("r") >= 2
    assert "bikes" in run(tmp_path, "log", "tail", "bike").stderr


def test_an_export_holds_the_truth(tmp_path: Path) -> None:
    from tidewheel.predictions.export import export_log

    write(tmp_path, 12)
    folder = log_folder(tmp_path, "bikes")
    assert export_log(folder, tmp_path / "all.csv", lambda _: ["a"]) == 12
    assert export_log(folder, tmp_path / "known.parquet", lambda _: ["a"], labels=True) == 1
    assert pl.read_parquet(tmp_path / "known.parquet").select("label", "id", "prediction").rows() == [(7, "r3", 3)]
