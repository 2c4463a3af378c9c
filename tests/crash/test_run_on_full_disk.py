"""A run whose disk fills up or is sealed half-way: told clearly, found again, and finished once there is room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import SystemClock
from tidewheel.database.database import open_database
from tidewheel.database.migrate import prepare
from tidewheel.errors import StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.pipelines.runs import list_runs, resume_run, start_run
from tidewheel.pipelines.target import load_target

if TYPE_CHECKING:
    from tests.crash.conftest import Disk

STEPS = Path(__file__).with_name("crash_steps.py")
TIDE = load_target(f"{STEPS}:tide")
EXPECTED = load_target(f"{STEPS}:expected")


@pytest.fixture
def on_disk(disk: Disk) -> Iterator[Store]:
    """A store whose database, blobs and home are all on the small disk."""
    opened = Store(
        database=open_database(f"sqlite:///{disk.path / 'tidewheel.db'}"),
        blobs=FolderBlobs(disk.path / "blobs"),
        clock=SystemClock(),
        home=disk.path,
    )
    prepare(opened.database, import_tables)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "boundary", ["run.open:before", "step.start:before", "step.commit:before", "run.finish:before"]
)
def test_a_disk_that_fills_up_half_way_loses_nothing(on_disk: Store, disk: Disk, tmp_path: Path, boundary: str) -> None:
    book = tmp_path / "book"
    book.touch()
    held: list[AbstractContextManager[None]] = []

    def fill(reached: str) -> None:
        if reached == boundary and not held:
            held.append(disk.full())
            held[0].__enter__()

    parameters = {"start": 1, "blob": b"blob" * 750, "book": str(book)}
    try:
        with pytest.raises(StorageUnavailable, match=r"\n.*[Ff]ree"):
            start_run(on_disk, TIDE, parameters, on_boundary=fill)
    finally:
        held[0].__exit__(None, None, None)
    found = list_runs(on_disk)
    run = resume_run(on_disk, found[0].id, TIDE) if found else start_run(on_disk, TIDE, parameters)
    assert run.output == EXPECTED(1)
    assert {item.state for item in list_runs(on_disk)} == {"SUCCEEDED"}


def test_a_sealed_disk_starts_no_run(on_disk: Store, disk: Disk, tmp_path: Path) -> None:
    on_disk.close()  # no file may be open for writing when the disk is sealed
    with disk.read_only(), pytest.raises(StorageUnavailable, match=r"\n.*(can be written|writable|write access)"):
        start_run(on_disk, TIDE, {"start": 1, "blob": b"x", "book": str(tmp_path / "book")})
    on_disk.close()
    assert list_runs(on_disk) == []
