"""The sample steps, loaded the way a user's file is."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tidewheel.pipelines.target import load_target

SAMPLES = Path(__file__).with_name("sample_steps.py")


@pytest.fixture(scope="session")
def sample() -> ModuleType:
    """The module of sample steps."""
    load_target(f"{SAMPLES}:tide")
    import sys

    return sys.modules["sample_steps"]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A file in which steps note that they were executed."""
    path = tmp_path / "book.txt"
    path.touch()
    return path


@pytest.fixture(scope="session")
def values() -> ModuleType:
    """The module of steps about values and secrets."""
    load_target(f"{SAMPLES.with_name('sample_values.py')}:records")
    import sys

    return sys.modules["sample_values"]
