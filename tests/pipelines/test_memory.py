"""A run holds no more than two of the large frames that its steps pass on, however many there are."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.store import MemoryBlobs
from tidewheel.errors import StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.pipelines.at_hand import AtHand, size_of
from tidewheel.pipelines.handle import value
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.runs import start_run
from tidewheel.pipelines.step import step
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.tree import decode, encode

CHAIN = Path(__file__).with_name("frames_chain.py")
MEGABYTES, LENGTH = 80, 6  # above what stays at hand


@pytest.mark.slow
def test_a_chain_of_large_frames_holds_two_at_once(tmp_path: Path) -> None:
    # Polars' allocator gives pages back half a second late; told to do it at once, the peak is what is really held.
    surroundings = os.environ | {"_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0", "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, str(CHAIN), str(tmp_path), str(MEGABYTES), str(LENGTH)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=surroundings)
    held = float(done.stdout)
    assert 1.0 < held < 2.2, f"{held:.2f} frames at the worst moment: the one that goes in and the one that comes out"


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Set the length that a file may have, which ends with the test."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


NOISE = np.random.default_rng(0).random(1_500_000)  # 12 MB


@pytest.mark.parametrize("large", [pl.DataFrame({"a": NOISE}), NOISE, pl.Series("a", NOISE), pa.table({"a": NOISE})])
def test_a_large_value_goes_to_a_file_whole_or_not_at_all(
    tmp_path: Path, small_files: Callable[[int], None], large: Any
) -> None:
    folder = FolderBlobs(tmp_path / "blobs")
    shelf, elsewhere = Shelf(blobs=folder, files=tmp_path), Shelf(blobs=MemoryBlobs(), files=tmp_path)
    small_files(1_000_000)
    with pytest.raises(StorageUnavailable, match="File too large") as told:
        encode(large, shelf)
    assert told.value.passing
    assert not [path for path in folder.folder.rglob("*") if path.is_file()]
    small_files(resource.RLIM_INFINITY)
    stored = encode(large, shelf)
    assert stored.content == encode(large, elsewhere).content
    assert folder.get(stored.digest)
    assert np.array_equal(np.asarray(decode(stored, shelf)).ravel(), NOISE)
    assert [blob.digest for blob in folder.kept()] == [stored.digest]
    assert encode(large, shelf) == stored


class Owner:
    """Has a value at hand."""

    def __init__(self) -> None:
        self.has = True

    def let_go(self) -> None:
        """Drop it."""
        self.has = False


def test_the_longest_unused_values_go_first() -> None:
    near = AtHand(limit=100)
    owners = [Owner() for _ in range(4)]
    for owner in owners[:3]:
        near.keep(owner, 30)
    near.handed(owners[0])
    near.keep(owners[3], 30)
    assert [owner.has for owner in owners] == [True, False, True, True]
    assert near.size == 90
    del owner, owners
    gc.collect()
    assert near.size == 0


def test_one_value_above_the_limit_is_at_hand_until_it_was_handed_on() -> None:
    near = AtHand(limit=100)
    small, large, larger = Owner(), Owner(), Owner()
    near.keep(small, 60)
    near.keep(large, 200)
    assert (small.has, large.has) == (True, True)
    near.keep(larger, 300)
    assert (large.has, larger.has) == (False, True)
    near.handed(larger)
    assert (small.has, larger.has) == (True, False)


@pytest.mark.parametrize("made", [pl.DataFrame({"a": list(range(1000))}), pl.Series(range(1000))])
def test_the_size_of_a_value_is_what_it_takes_in_memory(made: pl.DataFrame | pl.Series) -> None:
    assert size_of(made, 10) >= 8_000


@step
def rows(count: int) -> pl.DataFrame:
    return pl.DataFrame({"a": range(count)})


@step
def items(count: int) -> list[int]:
    return list(range(count))


@pipeline
def touches(count: int) -> bool:
    frame, numbers = value(rows(count)), items(count)
    numbers.append(7)
    again = [rows(count + place).height for place in range(1, 20)]
    return numbers[-1] == 7 and len(again) == 19 and frame.height == count


def test_what_the_body_has_touched_and_changed_stays_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidewheel.pipelines.session.AtHand", lambda: AtHand(limit=1_000))
    assert start_run(store, touches, {"count": 500}).output is True
