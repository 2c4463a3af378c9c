"""In CI a skipped test is a failure; elsewhere it is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

def test_skips():
    pytest.skip("no such service: start it")

@pytest.mark.xfail
def test_expected_to_fail():
    raise ValueError

def test_passes():
    pass
"""


@pytest.mark.parametrize(
    ("in_ci", "closing"), [("0", "1 passed, 1 skipped, 1 xfailed"), ("1", "1 failed, 1 passed, 1 xfailed")]
)
def test_a_skip_fails_only_in_ci(tmp_path: Path, in_ci: str, closing: str) -> None:
    shutil.copy(ROOT / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_it.py").write_text(TESTS)
    environment = {**os.environ, "TIDEWHEEL_CI": in_ci}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert closing in done.stdout
    assert "start it" in done.stdout or in_ci == "0"
