"""Nothing heavy is imported by the face of the package nor by `tidewheel --help`, and both are quick."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


def _printed(code: str) -> str:
    """Return the last line that a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("code", CODES)
def test_leaves_heavy_packages_alone(code: str) -> None:
    loaded = f"{code}\nimport sys\nprint('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    assert _printed(loaded) == "loaded:"


@pytest.mark.parametrize(("code", "most"), [("import tidewheel", 40), (HELP, 200)], ids=["import", "help"])
def test_loads_few_modules(code: str, most: int) -> None:
    """What start-up costs is measured in benchmarks/startup.py; how much it loads does not depend on the machine."""
    count = int(_printed(f"import sys\nbefore = len(sys.modules)\n{code}\nprint(len(sys.modules) - before)"))
    assert count <= most


def test_the_face_is_small_and_every_name_on_it_resolves() -> None:
    names = list(getattr(tidewheel, "__all__", []))
    rooms = {name for name in names if isinstance(getattr(tidewheel, name), ModuleType)}  # gates, rollouts, triggers
    assert len(set(names) - rooms) <= 12
    assert len(rooms) <= 3
    assert [name for name in names if getattr(tidewheel, name, None) is None] == []
