"""Full, read-only and rotten disks: a clear error with its mend, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.store import digest_of
from tidewheel.clock import ManualClock
from tidewheel.data import datasets
from tidewheel.data.segments import load_manifest
from tidewheel.database.database import open_database
from tidewheel.database.migrate import prepare
from tidewheel.errors import CorruptBlob, MissingBlob, StorageUnavailable
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.read import list_entities, list_events
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, ensure_entity

if TYPE_CHECKING:
    from tests.crash.conftest import Disk

BIG = 6 << 20  # more than the small disk holds
FULL = r"(full|No space left|File too large|cannot be read or written).*\n.*[Ff]ree"
SEALED = r"\n.*(can be written|writable|write access)"


def opened(database: Path, blobs: Path) -> Store:
    store = Store(
        database=open_database(f"sqlite:///{database / 'tidewheel.db'}"),
        blobs=FolderBlobs(blobs / "blobs"),
        clock=ManualClock(),
        home=database,
    )
    prepare(store.database, import_tables)
    return store


@pytest.fixture
def on_disk(disk: Disk) -> Iterator[Store]:
    """A store whose database and blobs are both on the small disk."""
    store = opened(disk.path, disk.path)
    yield store
    store.close()


def numbers(rows: int, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame({"x": random.random(rows), "y": random.integers(0, 2, rows)})


def emptied(store: Store) -> None:
    """Bring the write-ahead log into the database file, so that the next write needs room."""
    with store.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def names(store: Store) -> list[str]:
    with store.database.reading() as tx:
        return sorted(entity.name for entity in list_entities(tx, "dataset"))


def note(store: Store, name: str, size: int = 0) -> None:
    with store.database.transaction() as tx:
        at = store.clock.now()
        ensure_entity(tx, "dataset", name, at=at, facets={"note": "x" * size})
        append_event(tx, "noted", {"name": name}, at=at, governs=True)


def healthy(store: Store) -> bool:
    """Check the file's own integrity and the audit chain."""
    with store.database.reading() as tx:
        return tx.execute(sa.text("PRAGMA integrity_check")).scalar() == "ok" and verify_chain(tx).intact


# A full disk ------------------------------------------------------------------------------------------------------


def test_blobs_on_a_full_disk_are_kept_whole_or_not_at_all(disk: Disk) -> None:
    blobs = FolderBlobs(disk.path / "blobs")
    before = blobs.put(b"tide" * 1_000)
    data = np.random.default_rng(0).bytes(BIG)
    with disk.full():
        with pytest.raises(StorageUnavailable, match=FULL):
            blobs.put(data)
        assert not blobs.exists(digest_of(data))
        assert [blob.digest for blob in blobs.kept()] == [before]
        assert blobs.get(before) == b"tide" * 1_000
        assert blobs.put(b"tide" * 1_000) == before
    assert [path.name for path in (disk.path / "blobs").rglob(".partial-*")] == []
    small = data[: 1 << 20]
    assert blobs.get(blobs.put(small)) == small


def test_a_transaction_on_a_full_disk_is_kept_whole_or_not_at_all(disk: Disk, on_disk: Store) -> None:
    note(on_disk, "before")
    emptied(on_disk)
    with disk.full():
        for size in (BIG, 50_000, 50_000):
            with pytest.raises(StorageUnavailable, match=FULL):
                note(on_disk, "while", size)
        assert names(on_disk) == ["before"]
    note(on_disk, "after")
    assert names(on_disk) == ["after", "before"]
    assert healthy(on_disk)
    with on_disk.database.reading() as tx:
        assert [event.body["name"] for event in list_events(tx, type_prefix="noted")] == ["before", "after"]


def test_a_store_opened_again_after_a_full_disk_has_everything_that_was_said_to_be_kept(disk: Disk) -> None:
    store = opened(disk.path, disk.path)
    kept = []
    with disk.full():
        for number in range(2_000):
            try:
                note(store, f"n{number:04}", 2_000)
            except StorageUnavailable:
                break
            kept.append(f"n{number:04}")
    assert len(kept) < 2_000
    store.close()
    again = opened(disk.path, disk.path)
    assert names(again) == kept
    assert healthy(again)
    again.close()


def test_rows_appended_on_a_full_disk_are_a_version_or_nothing(disk: Disk, on_disk: Store) -> None:
    first = datasets.register(on_disk, "rows", numbers(1_000, 0))
    emptied(on_disk)
    with disk.full():
        with pytest.raises(StorageUnavailable, match=FULL):
            datasets.append(on_disk, "rows", numbers(20_000, 1))
        assert datasets.get(on_disk, "rows") == first
        assert datasets.read(on_disk, "rows").equals(numbers(1_000, 0))
    second = datasets.append(on_disk, "rows", numbers(20_000, 1))
    assert (second.seq, second.rows) == (2, 21_000)
    assert datasets.read(on_disk, "rows").equals(pl.concat([numbers(1_000, 0), numbers(20_000, 1)]))
    assert datasets.read(on_disk, "rows:1").equals(numbers(1_000, 0))
    assert healthy(on_disk)


def test_rows_whose_blobs_fit_but_whose_version_does_not_can_be_appended_again(disk: Disk, tmp_path: Path) -> None:
    if not disk.mounted:
        tmp_path = disk.path  # without a file system of its own, both are full at once
    store = opened(disk.path, tmp_path)
    first = datasets.register(store, "rows", numbers(100, 0))
    emptied(store)
    with disk.full():
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match=FULL):
                datasets.append(store, "rows", numbers(3_000, 1))
        assert [version.seq for version in datasets.versions_of(store, "rows")] == [1]
        assert datasets.get(store, "rows") == first
    assert datasets.append(store, "rows", numbers(3_000, 1)).seq == 2
    assert datasets.read(store, "rows").height == 3_100
    assert healthy(store)
    store.close()


def test_a_new_store_on_a_full_disk_is_refused_and_can_be_made_later(disk: Disk) -> None:
    with disk.full(), pytest.raises(StorageUnavailable, match=FULL):
        opened(disk.path, disk.path)
    store = opened(disk.path, disk.path)
    note(store, "after")
    assert names(store) == ["after"]
    store.close()


# A read-only disk -------------------------------------------------------------------------------------------------


def test_blobs_in_a_read_only_folder_can_be_read_and_not_written(disk: Disk) -> None:
    blobs = FolderBlobs(disk.path / "blobs")
    digest = blobs.put(b"tide")
    with disk.read_only():
        calls: tuple[Callable[[], Any], ...] = (lambda: blobs.put(b"wheel"), lambda: blobs.delete(digest))
        for call in calls:
            with pytest.raises(StorageUnavailable, match=SEALED):
                call()
        assert blobs.get(digest) == b"tide"
        assert [blob.digest for blob in blobs.kept()] == [digest]
    assert blobs.get(blobs.put(b"wheel")) == b"wheel"
    assert blobs.get(digest) == b"tide"


def test_a_database_gone_read_only_says_so_and_loses_nothing(disk: Disk) -> None:
    store = opened(disk.path, disk.path)
    note(store, "before")
    store.close()
    with disk.read_only(), pytest.raises(StorageUnavailable, match=SEALED):
        note(opened(disk.path, disk.path), "while")
    store = opened(disk.path, disk.path)
    note(store, "after")
    assert names(store) == ["after", "before"]
    assert healthy(store)
    store.close()


def test_a_store_in_a_folder_that_cannot_be_made_is_refused(disk: Disk) -> None:
    with disk.read_only(), pytest.raises(StorageUnavailable, match=SEALED):
        opened(disk.path / "new" / "home", disk.path)


def test_rows_for_a_read_only_blob_folder_leave_the_dataset_as_it_was(disk: Disk, tmp_path: Path) -> None:
    store = opened(tmp_path, disk.path)
    first = datasets.register(store, "rows", numbers(100, 0))
    with disk.read_only():
        with pytest.raises(StorageUnavailable, match=SEALED):
            datasets.append(store, "rows", numbers(100, 1))
        with pytest.raises(StorageUnavailable, match=SEALED):
            datasets.register(store, "others", numbers(100, 2))
        assert datasets.get(store, "rows") == first
        assert datasets.read(store, "rows").equals(numbers(100, 0))
        assert names(store) == ["rows"]
    assert datasets.append(store, "rows", numbers(100, 1)).seq == 2
    store.close()


# A rotten disk ----------------------------------------------------------------------------------------------------


def blob_path(store: Store, digest: str) -> Path:
    text = digest.removeprefix("sha256:")
    return store.home / "blobs" / text[:2] / text[2:]


def flipped(path: Path) -> bytes:
    """Change one bit in the middle of a file and return what it held."""
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    return data


def test_one_flipped_bit_in_a_segment_is_found_and_only_there(store: Store) -> None:
    datasets.register(store, "rows", numbers(100, 0))
    other = datasets.register(store, "other", numbers(100, 1))
    datasets.append(store, "rows", numbers(50, 2))
    manifest = load_manifest(store.blobs, datasets.get(store, "rows:1").digest)
    path = blob_path(store, manifest.segments[0].digest)
    held = flipped(path)
    for reference in ("rows", "rows:1"):
        with pytest.raises(CorruptBlob, match=rf"{path}.*\n.*backup"):
            datasets.read(store, reference)
    assert datasets.read(store, "rows", last=50).equals(numbers(50, 2))  # rows of sound segments are still there
    assert datasets.read(store, "other").height == other.rows
    third = datasets.append(store, "rows", numbers(20, 3))  # and new ones still find their place
    path.write_bytes(held)
    assert datasets.read(store, "rows").height == third.rows == 170


def test_a_flipped_bit_in_a_manifest_stops_reading_and_appending(store: Store) -> None:
    version = datasets.register(store, "rows", numbers(100, 0))
    path = blob_path(store, version.digest)
    held = flipped(path)
    with pytest.raises(CorruptBlob, match=version.digest):
        datasets.read(store, "rows")
    with pytest.raises(CorruptBlob, match=version.digest):
        datasets.append(store, "rows", numbers(10, 1))
    assert [one.seq for one in datasets.versions_of(store, "rows")] == [1]
    path.write_bytes(held)
    assert datasets.append(store, "rows", numbers(10, 1)).rows == 110


def test_rows_registered_again_mend_a_rotten_segment_that_was_deleted(store: Store) -> None:
    version = datasets.register(store, "rows", numbers(100, 0))
    segment = load_manifest(store.blobs, version.digest).segments[0].digest
    flipped(blob_path(store, segment))
    store.blobs.delete(segment)
    with pytest.raises(MissingBlob, match=segment):
        datasets.read(store, "rows")
    datasets.register(store, "again", numbers(100, 0))  # equal rows are equal bytes: both names have them back
    assert datasets.read(store, "rows").equals(numbers(100, 0))


@pytest.mark.parametrize("damage", [b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 8_000])
def test_a_damaged_database_file_is_named_with_its_mend(tmp_path: Path, damage: bytes) -> None:
    store = opened(tmp_path, tmp_path)
    note(store, "before")
    store.close()
    file = tmp_path / "tidewheel.db"
    held = file.read_bytes()
    file.write_bytes(damage)
    with pytest.raises(StorageUnavailable, match=r"tidewheel\.db.*\n.*backup"):
        opened(tmp_path, tmp_path)
    file.write_bytes(held)
    again = opened(tmp_path, tmp_path)
    assert names(again) == ["before"]
    again.close()


def test_a_database_deleted_under_an_open_store_is_noticed_at_the_next_write(tmp_path: Path) -> None:
    store = opened(tmp_path, tmp_path)
    note(store, "before")
    (tmp_path / "tidewheel.db").rename(tmp_path / "moved.db")
    with pytest.raises(StorageUnavailable, match=r"tidewheel\.db.*\n.*backup"):
        note(store, "lost")
    (tmp_path / "moved.db").rename(tmp_path / "tidewheel.db")
    note(store, "after")
    assert names(store) == ["after", "before"]
    store.close()


def test_a_database_replaced_by_an_empty_one_is_no_database_of_ours(tmp_path: Path) -> None:
    store = opened(tmp_path, tmp_path)
    store.close()
    for file in tmp_path.glob("tidewheel.db*"):
        file.unlink()
    (tmp_path / "tidewheel.db").touch()
    with pytest.raises(StorageUnavailable, match=r"no tables of tidewheel.*\n.*backup"):
        names(store)
    store.close()
