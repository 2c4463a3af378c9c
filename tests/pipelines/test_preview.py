"""What a stored value holds is told without importing its class or unpickling it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tidewheel.blobs.open import open_blobs
from tidewheel.pipelines.preview import numbers_in, preview, readable, size_of
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.tree import encode


@dataclass(frozen=True)
class Worth:
    """A record of a module that is taken away below."""

    rmse: float
    rows: Any


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(blobs=open_blobs(str(tmp_path / "blobs")), files=tmp_path / "files")


def test_values_are_read_as_plain_data(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"a": [1]})
    value = {"worth": Worth(rmse=0.5, rows=frame), ("k", 1): {2, 3}, "raw": b"xyz", "text": "a" * 5000}
    stored = encode(value, shelf)
    monkeypatch.delitem(sys.modules, __name__)
    plain = readable(stored, shelf)
    assert plain["worth"]["rmse"] == 0.5
    assert plain["worth"]["rows"].startswith("<polars.DataFrame, ")
    assert plain['["k", 1]'] == [2, 3]
    assert numbers_in(plain)["worth.rmse"] == 0.5
    assert len(preview(stored, shelf).text) <= 2001


def test_tables_and_arrays_show_their_beginning(shelf: Shelf) -> None:
    wide = pl.DataFrame({f"c{number}": [None, *range(99)] for number in range(20)})
    seen = preview(encode(wide, shelf), shelf)
    assert (seen.height, len(seen.columns), len(seen.rows), seen.rows[0][0]) == (100, 12, 5, "")
    assert seen.text == "100 rows, 20 columns, 8 columns more"
    assert preview(encode(np.arange(6.0), shelf), shelf).text.startswith("array (6,) of float64: [0. 1.")


class Bomb:
    """Something that only a pickle holds, and that goes off when it is unpickled."""

    def __reduce__(self) -> Any:
        return exit, (3,)


def test_a_pickle_is_named_and_not_opened(shelf: Shelf) -> None:
    seen = preview(encode(Bomb(), shelf), shelf)
    assert "pickle" in seen.kind
    assert seen.text.startswith(seen.kind)


def test_bytes_that_are_gone_say_so(shelf: Shelf) -> None:
    stored = encode(pl.DataFrame({"a": [1]}), shelf)
    for blob in stored.blobs:
        shelf.blobs.delete(blob)
    assert "sha256" in preview(stored, shelf).text


def test_sizes_and_numbers_for_people() -> None:
    assert [size_of(count) for count in (0, 999, 1000, 1_234_000, 5_000_000_000_000)] == [
        "0 B", "999 B", "1.0 kB", "1.2 MB", "5000.0 GB",
    ]  # fmt: skip
    assert numbers_in(3) == {"": 3.0}
    assert numbers_in([1, {"a": True, "b": None, "c": 2}]) == {"0": 1.0, "1.c": 2.0}
