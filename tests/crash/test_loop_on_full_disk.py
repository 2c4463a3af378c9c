"""A loop whose disk is full: it says so, keeps nothing by halves, and goes on where it stood once there is room."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.data import datasets
from tidewheel.errors import StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.loop.conductor import Turn
from tidewheel.loop.status import status
from tidewheel.loop.tick import Ticker
from tidewheel.pipelines.runs import list_runs
from tidewheel.pipelines.target import load_target
from tidewheel.registry.versions import list_versions

if TYPE_CHECKING:
    from tests.crash.conftest import Disk

FILE = Path(__file__).parents[1] / "loop" / "orchard.py"


@pytest.fixture
def orchard() -> Any:
    """The module of the small loop."""
    load_target(f"{FILE}:apples")
    return sys.modules["orchard"]


@pytest.fixture
def on_disk(disk: Disk, orchard: Any) -> Iterator[Store]:
    """The planted orchard on the small disk."""
    store = orchard.open_orchard(disk.path)
    orchard.plant(store)
    yield store
    store.close()


def test_a_tick_on_a_full_disk_is_told_and_repeated(on_disk: Store, disk: Disk, orchard: Any) -> None:
    ticker = Ticker(on_disk, orchard.due_loop())
    ticker.tick()
    stand = orchard.Stand(on_disk)
    stand.sell(60)
    stand.close()
    turn = Turn(ticker, 1.0)
    with disk.full():
        with pytest.raises(StorageUnavailable, match=r"\n.*[Ff]ree"):
            ticker.tick()
        for moment in (0.0, 100.0, 200.0):
            turn.take(lambda now=moment: now)  # type: ignore[misc]
        assert turn.failures == 3  # the conductor lives and waits longer each time
        assert status(on_disk, "apples")[0].champion == 1
    for _ in range(3):
        ticker.tick()
    found = status(on_disk, "apples")[0]
    assert (found.busy, found.doing, found.labelled, found.challenger) == (False, "watching", 60, 2)
    assert (found.counters["triggers"], found.counters["runs"]) == (2, 4)
    assert datasets.get(on_disk, "orchard").rows == 260
    assert len(list_versions(on_disk, "apples")) == 2
    assert {str(run.state) for run in list_runs(on_disk)} == {"SUCCEEDED"}


def test_a_loop_on_a_sealed_disk_is_told_and_repeated(on_disk: Store, disk: Disk, orchard: Any) -> None:
    ticker = Ticker(on_disk, orchard.due_loop())
    ticker.tick()
    stand = orchard.Stand(on_disk)
    stand.sell(60)
    stand.close()
    on_disk.close()  # no file may be open for writing when the disk is sealed
    with disk.read_only(), pytest.raises(StorageUnavailable, match=r"\n.*(can be written|writable|write access)"):
        ticker.tick()
    on_disk.close()
    for _ in range(3):
        ticker.tick()
    found = status(on_disk, "apples")[0]
    assert (found.busy, found.labelled, found.challenger) == (False, 60, 2)
