"""The project of schedules, loaded the way a user's file is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tidewheel.pipelines.target import load_target

FILE = Path(__file__).with_name("schedule_steps.py")


@pytest.fixture(scope="session")
def project() -> ModuleType:
    """The module of schedules."""
    load_target(f"{FILE}:hourly")
    return sys.modules["schedule_steps"]


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Read what the runs noted."""
    path = tmp_path / "book.txt"
    path.touch()
    monkeypatch.setenv("TRIGGERS_BOOK", str(path))
    return lambda: path.read_text("utf-8").splitlines()
