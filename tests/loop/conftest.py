"""The orchard, loaded the way a user's file is, and a stand that sells apples."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tidewheel.lineage.store import Store
from tidewheel.pipelines.target import load_target

FILE = Path(__file__).with_name("orchard.py")


@pytest.fixture(scope="session")
def orchard() -> ModuleType:
    """The module of the small loop."""
    load_target(f"{FILE}:apples")
    return sys.modules["orchard"]


@pytest.fixture
def stand(store: Store, orchard: ModuleType) -> Iterator[Any]:
    """A planted orchard whose apples are sold; nothing is deployed yet."""
    orchard.plant(store)
    stand = orchard.Stand(store)
    yield stand
    stand.close()


@pytest.fixture
def any_stand(any_store: Store, orchard: ModuleType) -> Iterator[Any]:
    """The same on each database."""
    orchard.plant(any_store)
    stand = orchard.Stand(any_store)
    yield stand
    stand.close()
