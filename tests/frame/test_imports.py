"""Nothing heavy is imported by the face of the package nor by `tidewheel --help`, and both are quick."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import tidewheel

HEAVY = (
    "numpy",
    "polars",
    "sklearn",
    "sqlalchemy",
    "onnxruntime",
    "starlette",
    "fsspec",
    "scipy",
    "pandas",
    "pyarrow",
    "uvicorn",
    "jinja2",
    "s3fs",
    "boto3",
)
HELP = """
import sys
from tidewheel.cli.main import run
sys.argv = ["tidewheel", "--help"]
try:
    run()
except SystemExit as done:
    if done.code:
        raise
"""
CLI = Path(tidewheel.__file__).parent / "cli" / "main.py"
CODES = [
    pytest.param("import tidewheel", id="import"),
    pytest.param(
        HELP, id="help", marks=pytest.mark.skipif(not CLI.exists(), reason="the command line is not built yet")
    ),
]


def _child(code: str) -> tuple[str, float]:
    """Return what a fresh interpreter prints and the CPU seconds that it takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("code", CODES)
def test_leaves_heavy_packages_alone(code: str) -> None:
    printed, _ = _child(f"{code}\nimport sys\nprint('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))")
    assert printed.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize("code", CODES)
def test_costs_at_most_a_tenth_of_a_second_over_bare_python(code: str) -> None:
    bare = min(_child("pass")[1] for _ in range(4))
    loaded = min(_child(code)[1] for _ in range(4))
    assert loaded - bare <= 0.1


def test_the_face_is_small_and_every_name_on_it_resolves() -> None:
    names = list(getattr(tidewheel, "__all__", []))
    assert len(names) <= 12
    assert [name for name in names if getattr(tidewheel, name, None) is None] == []
