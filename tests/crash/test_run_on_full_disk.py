"""A run whose disk fills up or is sealed half-way: told clearly, found again, and finished once there is room."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
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
from tidewheel.pipelines.executors.seam import kept
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.runs import list_runs, resume_run, start_run
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.target import load_target
from tidewheel.pipelines.tree import decode

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


@pytest.mark.parametrize(
    "boundary", ["run.open:before", "step.start:before", "step.commit:before", "run.finish:before"]
)
def test_a_run_with_patience_waits_until_there_is_room(
    on_disk: Store, disk: Disk, tmp_path: Path, boundary: str
) -> None:
    book = tmp_path / "book"
    book.touch()
    held: list[AbstractContextManager[None]] = []
    told: list[str] = []

    def fill(reached: str) -> None:
        if reached == boundary and not held:
            held.append(disk.full())
            held[0].__enter__()

    def tell(event: RunEvent) -> None:
        if event.state == "WAITING":
            told.append(event.detail)
            if len(told) == 1:
                held[0].__exit__(None, None, None)

    patient = replace(on_disk, storage_patience=60.0)
    parameters = {"start": 1, "blob": b"blob" * 750, "book": str(book)}
    run = start_run(patient, TIDE, parameters, on_boundary=fill, on_event=tell)
    assert run.output == EXPECTED(1)
    assert len(told) == 2
    assert "Waiting for up to 60 s." in told[0]
    names = [line.split()[0] for line in book.read_text().splitlines()]
    assert sorted(names) == sorted(["add"] * 3 + ["payload", "pair", "announce"] + ["stumbles"] * 2)


class Freeing(io.StringIO):
    """Somebody who reads what is printed, and makes room."""

    def __init__(self, full: AbstractContextManager[None]) -> None:
        super().__init__()
        self._full = full

    def write(self, text: str) -> int:
        """Make room at the first word."""
        if not self.getvalue():
            self._full.__exit__(None, None, None)
        return super().write(text)


def test_what_a_step_returned_waits_for_room(disk: Disk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load_target(f"{STEPS}:payload")
    payload = sys.modules["crash_steps"].payload
    shelf = Shelf(blobs=FolderBlobs(disk.path / "blobs"), files=tmp_path, patience=60.0)
    result = bytes(range(256)) * 1_000
    full = disk.full()
    full.__enter__()
    said = Freeing(full)
    monkeypatch.setattr(sys, "stderr", said)
    (stored,) = kept(payload, result, shelf)[1]
    assert decode(stored, shelf) == result
    assert "bytes cannot be kept" in said.getvalue()
    assert "The storage answers again" in said.getvalue()


def test_a_sealed_disk_starts_no_run(on_disk: Store, disk: Disk, tmp_path: Path) -> None:
    on_disk.close()  # no file may be open for writing when the disk is sealed
    with disk.read_only(), pytest.raises(StorageUnavailable, match=r"\n.*(can be written|writable|write access)"):
        start_run(on_disk, TIDE, {"start": 1, "blob": b"x", "book": str(tmp_path / "book")})
    on_disk.close()
    assert list_runs(on_disk) == []
