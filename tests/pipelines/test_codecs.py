"""What a step returned comes back the same, of the same type, in any process."""

from __future__ import annotations

import decimal
import enum
import math
import threading
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from tidewheel.blobs.store import MemoryBlobs
from tidewheel.errors import InvalidInput, MissingBlob
from tidewheel.fingerprint.value import value_digest
from tidewheel.models.model import Model
from tidewheel.pipelines.codecs import CODECS
from tidewheel.pipelines.stored import Shelf, stored_from
from tidewheel.pipelines.tree import decode, encode, media_type


class Colour(enum.Enum):
    RED = 1


@dataclass(frozen=True, slots=True)
class Scores:
    name: str
    rows: pl.DataFrame
    parts: list[int] = field(default_factory=list)


@dataclass
class Lazy:
    value: int

    def __post_init__(self) -> None:
        self.extra = self.value * 2


class Pair(NamedTuple):
    left: int
    right: str


class Wire(msgspec.Struct):
    left: int
    right: str = "x"


class Plain:
    def __init__(self, value: int) -> None:
        self.value = value


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(blobs=MemoryBlobs(), files=tmp_path / "files")


FRAME = pl.DataFrame(
    {
        "int": [1, None, 3],
        "big": pl.Series([1, 2**100, None], dtype=pl.Int128),
        "text": ["a", None, "é"],
        "flag": [True, None, False],
        "day": [date(2026, 1, 1), None, None],
        "at": pl.Series([datetime(2026, 1, 1, tzinfo=UTC), None, None], dtype=pl.Datetime("us", "Europe/Paris")),
        "clock": [time(1, 2), None, None],
        "long": [timedelta(seconds=1), None, None],
        "list": [[1], [], None],
        "struct": [{"a": 1, "b": "x"}, {"a": None, "b": None}, None],
        "cat": pl.Series(["a", "b", None], dtype=pl.Categorical),
        "enum": pl.Series(["a", "b", None], dtype=pl.Enum(["b", "a"])),
        "bytes": [b"a", b"", None],
        "number": [decimal.Decimal("1.20"), None, None],
        "float": [math.nan, math.inf, None],
        "none": [None, None, None],
    }
)
VALUES: list[tuple[str, Any]] = [
    ("tree", None),
    ("tree", 2**200),
    ("tree", -0.0),
    ("tree", [math.nan, math.inf, -math.inf]),
    ("tree", "é\ud800"),
    ("tree", b"\x00\xff"),
    ("tree", (1, [2, (3,)], {4}, frozenset({"5"}))),
    ("tree", {"a": 1, "b": {"$": "tuple", "value": [1]}}),
    ("tree", {1: "a", (2, 3): "b", None: "c"}),
    ("tree", {"b": 1, "a": 2}),
    ("tree", [date(2026, 1, 1), datetime(2026, 1, 1, 2, 3, 4, 5, tzinfo=UTC), time(1, 2, 3), timedelta(-1, 2, 3)]),
    ("tree", datetime(2026, 1, 1, fold=1)),  # noqa: DTZ001 - a naive value of a user comes back naive
    ("tree", [datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Paris"))]),
    ("tree", [datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))]),
    ("tree", 1 + 2j),
    ("tree", [Colour.RED, Pair(1, "x"), Wire(1)]),
    ("tree", Scores("a", FRAME, [1])),
    ("tree", {"model": FRAME, "numbers": np.arange(3), "text": "x" * 3000}),
    ("tree", [decimal.Decimal("1.20"), Plain(3).value, range(3)]),
    ("tree", Path("some") / "where"),
    ("polars.DataFrame", FRAME),
    ("polars.DataFrame", FRAME[:0]),
    ("polars.DataFrame", pl.DataFrame()),
    ("polars.LazyFrame", FRAME.lazy()),
    ("polars.Series", FRAME["text"]),
    ("numpy.ndarray", np.arange(6.0).reshape(2, 3)),
    ("numpy.ndarray", np.array(["a", "bc"])),
    ("numpy.ndarray", np.array(["2026-01-01"], dtype="datetime64[D]")),
    ("numpy.ndarray", np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])),
    ("numpy.generic", np.float32(1.5)),
    ("pickle", np.array([1, "a"], dtype=object)),
    ("pickle", np.ma.masked_array([1, 2], mask=[True, False])),
    ("pandas.DataFrame", pd.DataFrame({"a": [1, 2], "b": ["x", None]})),
    ("pandas.DataFrame", pd.DataFrame({"a": pd.Categorical(["x", "y"])}, index=pd.Index([3, 4], name="i"))),
    ("pickle", pd.DataFrame({"a": [1, "x"]})),
    ("pickle", pd.Series([1, 2], name="a")),
    ("pyarrow.Table", pa.table({"a": [1, None], "b": ["x", "y"]})),
]


@pytest.mark.parametrize(("codec", "value"), VALUES)
def test_encode_then_decode_gives_the_value_back(codec: str, value: Any, shelf: Shelf) -> None:
    stored = encode(value, shelf)
    assert stored.codec == codec
    back = decode(stored_from(stored.as_json()), shelf)
    assert type(back) is type(value)
    assert value_digest(back) == value_digest(value) == stored.content


@pytest.mark.parametrize("value", [Lazy(3), Plain(3), {"a": Plain(3)}])
def test_encode_pickles_what_only_a_pickle_can_hold(value: Any, shelf: Shelf) -> None:
    back = decode(encode(value, shelf), shelf)
    assert repr(vars(back["a"] if isinstance(back, dict) else back)) in (
        "{'value': 3, 'extra': 6}",
        "{'value': 3}",
    )


def test_encode_keeps_a_model_with_its_predictions(shelf: Shelf) -> None:
    rows = pl.DataFrame({"a": [0.0, 1.0, 2.0]})
    model = Model(LinearRegression().fit(rows, [1.0, 3.0, 5.0]), example=rows)
    stored = encode([model], shelf)
    back = decode(stored, shelf)[0]
    assert back.predict(rows).tolist() == model.predict(rows).tolist()
    assert value_digest([back]) == stored.content


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
TREES = st.recursive(
    SCALARS | st.datetimes(timezones=st.just(UTC)) | st.timedeltas(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.just("$"), inner)
        | st.sets(st.text() | st.integers())
    ),
    max_leaves=20,
)


@given(TREES)
def test_every_tree_comes_back_the_same(value: Any) -> None:
    shelf = Shelf(blobs=MemoryBlobs(), files=Path("unused"))
    assert value_digest(decode(encode(value, shelf), shelf)) == value_digest(value)


def test_encode_keeps_small_trees_inline_and_long_ones_as_blobs(shelf: Shelf) -> None:
    small, long = encode([1, 2], shelf), encode(["x" * 5000], shelf)
    assert (small.inline, small.blobs) == ("[1,2]", ())
    assert long.inline is None
    assert long.blobs == (long.digest,)
    shelf.blobs.delete(long.digest)
    with pytest.raises(MissingBlob):
        decode(long, shelf)


def test_encode_of_a_returned_file_brings_its_bytes_back(shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    file.write_text("first")
    stored = encode(file, shelf, paths=True)
    assert decode(stored, shelf) == file
    file.write_text("second")
    other = decode(stored, shelf)
    assert (other.name, other.read_text()) == ("report.txt", "first")
    file.unlink()
    assert decode(stored, shelf) == other
    with pytest.raises(InvalidInput, match="not a file"):
        encode([tmp_path / "gone"], shelf, paths=True)


@pytest.mark.parametrize("value", [threading.Lock(), (item for item in [1]), [threading.Lock()]])
def test_encode_refuses_what_cannot_be_stored(value: object, shelf: Shelf) -> None:
    with pytest.raises(InvalidInput, match="inside the step"):
        encode(value, shelf)


def test_encode_names_a_column_of_python_objects(shelf: Shelf) -> None:
    frame = pl.DataFrame({"a": [1], "b": pl.Series([Colour.RED], dtype=pl.Object)})
    with pytest.raises(InvalidInput, match=r"'b' holds Python objects.*\n.*Cast"):
        encode(frame, shelf)


def test_encode_of_a_value_that_contains_itself_is_a_pickle(shelf: Shelf) -> None:
    value: list[Any] = [1]
    value.append(value)
    back = decode(encode(value, shelf), shelf)
    assert back[1] is back


def test_shared_frames_cannot_be_changed_by_another_step() -> None:
    frame = pl.DataFrame({"a": [1, 2]})
    other = CODECS["polars.DataFrame"].shared(frame)
    other.insert_column(0, pl.Series("b", [3, 4]))
    assert frame.columns == ["a"]


@pytest.mark.parametrize(("value", "kind"), [([1], "application/json"), (FRAME, "application/vnd.apache.parquet")])
def test_media_type_says_what_the_bytes_are(value: Any, kind: str, shelf: Shelf) -> None:
    assert media_type(encode(value, shelf)) == kind
