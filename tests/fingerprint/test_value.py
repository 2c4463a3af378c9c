"""Values are digested by type and content: equal content gives one digest, anything else another."""

from __future__ import annotations

import decimal
import enum
import functools
import math
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from tidewheel.errors import Unhashable
from tidewheel.fingerprint.value import Digested, value_digest


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Setting:
    depth: int
    rate: float = 0.1


class Pair(NamedTuple):
    left: int
    right: int


class Wire(msgspec.Struct):
    left: int


class Own:
    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.lock = threading.Lock()

    def __digest__(self) -> str:
        return self.digest


DIFFERENT: list[Any] = [
    None,
    0,
    1,
    -1,
    True,
    False,
    1.0,
    -0.0,
    0.0,
    math.nan,
    math.inf,
    "1",
    "",
    b"1",
    b"",
    1j,
    ...,
    (),
    [],
    {},
    set(),
    frozenset(),
    [1, 2],
    (1, 2),
    {1, 2},
    [[1], 2],
    [1, [2]],
    ["ab", "c"],
    ["a", "bc"],
    ["a"] * 8,
    ["a"] * 9,
    list(range(10)),
    [float(n) for n in range(10)],
    [str(n) for n in range(10)],
    ["0", "1", "2", "3", "4", "5", "6", "78", "9"],
    ["0", "1", "2", "3", "4", "5", "67", "8", "9"],
    tuple(range(10)),
    [True] * 10,
    [1] * 10,
    {"a": 1},
    {"a": "1"},
    {"a": 1, "b": 2},
    {"b": 2, "a": 1},
    {1: "a"},
    date(2026, 1, 1),
    datetime(2026, 1, 1),  # noqa: DTZ001 - a naive moment is a value like any other here
    datetime(2026, 1, 1, tzinfo=UTC),
    timedelta(seconds=1),
    decimal.Decimal("1.0"),
    decimal.Decimal("1.00"),
    range(3),
    range(0, 6, 2),
    slice(1, 2),
    Colour.RED,
    Colour.BLUE,
    Colour,
    Setting(1),
    Setting(2),
    Setting(1, 0.2),
    Pair(1, 2),
    Wire(1),
    Wire(2),
    Own("a"),
    Own("b"),
    np.int64(1),
    np.int32(1),
    np.float64(1),
    np.array([1, 2]),
    np.array([1, 2], dtype=np.int32),
    np.array([[1, 2]]),
    np.array([1.0, 2.0]),
    np.array([1, "2"], dtype=object),
    np.array(["1", "2"]),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.array([(1, 3.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.ma.masked_array([1, 2], mask=[False, True]),
    np.array([0, 1], dtype="datetime64[s]"),
    np.array([0, 1], dtype="datetime64[ms]"),
    pl.DataFrame({"a": [1, 2]}),
    pl.DataFrame({"b": [1, 2]}),
    pl.DataFrame({"a": [1, None]}),
    pl.DataFrame({"a": [1, 0]}),
    pl.DataFrame({"a": [1.0, 2.0]}),
    pl.DataFrame({"a": ["1", "2"]}),
    pl.DataFrame({"a": ["1", None]}),
    pl.DataFrame({"a": ["1", ""]}),
    pl.DataFrame({"a": ["12", ""]}),
    pl.DataFrame({"a": [[1, 2], []]}),
    pl.DataFrame({"a": [[1], [2]]}),
    pl.DataFrame({"a": [[1, 2], None]}),
    pl.DataFrame({"a": [{"x": 1}, {"x": 2}]}),
    pl.DataFrame({"a": [{"x": 1}, None]}),
    pl.DataFrame({"a": [True, False]}),
    pl.DataFrame({"a": [date(2026, 1, 1)]}),
    pl.DataFrame({"a": ["x", "y"]}, schema={"a": pl.Categorical}),
    pl.DataFrame({"a": ["x", "y"]}, schema={"a": pl.Enum(["x", "y"])}),
    pl.DataFrame({"a": ["x", "y"]}, schema={"a": pl.Enum(["y", "x"])}),
    pl.DataFrame({"a": [b"x", b"y"]}),
    pl.DataFrame({"a": [decimal.Decimal("1.0")]}),
    pl.Series("a", [1, 2]),
    pl.Series("b", [1, 2]),
    pd.DataFrame({"a": [1, 2]}),
    pd.DataFrame({"a": [1, 2]}, index=[1, 2]),
    pd.DataFrame({"a": [1, "2"]}),
    pd.DataFrame({"a": ["1", "2"]}),
    pd.DataFrame({"a": ["1", None]}),
    pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    pd.DataFrame({"a": pd.Categorical(["x", "y"], ordered=True)}),
    pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
    pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")])),
    pd.Series([1, 2]),
    pd.Series([1, 2], name="a"),
    pa.table({"a": [1, 2]}),
    pa.table({"a": [1.0, 2.0]}),
    Ridge(alpha=1.0),
    Ridge(alpha=2.0),
    functools.partial(max, 1),
    functools.partial(max, 2),
    len,
    [].append,
    Path("no-such-file"),
    Path("no-such-other-file"),
]


def test_value_digest_tells_every_pair_of_different_values_apart() -> None:
    digests = [value_digest(value) for value in DIFFERENT]
    same = [
        (DIFFERENT[first], DIFFERENT[second])
        for first in range(len(digests))
        for second in range(first)
        if digests[first] == digests[second]
    ]
    assert same == []


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.lists(st.text()),
    max_leaves=20,
)


@given(VALUES, VALUES)
def test_value_digest_is_equal_exactly_when_the_written_values_are(first: object, second: object) -> None:
    assert (value_digest(first) == value_digest(second)) == (repr(first) == repr(second))


@given(VALUES, VALUES)
def test_value_digest_of_a_container_knows_items_by_their_digests(first: object, second: object) -> None:
    by_digest = [Digested(value_digest(first)), {"x": Digested(value_digest(second))}]
    assert value_digest(by_digest) == value_digest([first, {"x": second}])


@given(st.permutations(["a", "b", "c", "d"]))
def test_value_digest_of_a_set_does_not_depend_on_its_order(order: list[str]) -> None:
    assert value_digest(set(order)) == value_digest({"a", "b", "c", "d"})


def test_value_digest_of_a_frame_ignores_chunks_and_bytes_behind_nulls() -> None:
    frame = pl.DataFrame({"a": [1, 2, None, 4], "s": ["x", None, "longer than twelve bytes", ""]})
    pieces = pl.concat([frame[:1], frame[1:3], frame[3:]], rechunk=False)
    assert pieces.n_chunks() == 3
    assert value_digest(pieces) == value_digest(frame)
    hidden = pl.DataFrame({"a": [1, 2, 77, 4], "s": frame["s"]}).with_columns(
        pl.when(pl.col("a") == 77).then(None).otherwise(pl.col("a")).alias("a")
    )
    assert value_digest(hidden) == value_digest(frame)


def test_value_digest_of_an_array_ignores_memory_order() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert value_digest(np.asfortranarray(array)) == value_digest(array)
    assert value_digest(array[:, ::2].copy()) == value_digest(array[:, ::2])


def test_value_digest_of_a_path_follows_content(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    missing = value_digest(file)
    file.write_text("a\n1\n")
    first = value_digest(file)
    file.touch()
    assert value_digest(file) == first != missing
    file.write_text("a\n2\n")
    assert value_digest(file) != first
    moved = tmp_path / "moved.csv"
    moved.write_text("a\n1\n")
    assert value_digest(moved) == first


def test_value_digest_of_a_folder_follows_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_text("1")
    first = value_digest(tmp_path)
    (tmp_path / "inner" / "a").rename(tmp_path / "inner" / "b")
    assert value_digest(tmp_path) != first


@pytest.mark.parametrize("value", [threading.Lock(), (item for item in [1]), [Path(__file__).open("rb")], {"a": sys}])  # noqa: SIM115
def test_value_digest_refuses_what_has_no_content(value: object) -> None:
    with pytest.raises(Unhashable, match="__digest__"):
        value_digest(value)


def test_value_digest_refuses_a_list_that_contains_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(Unhashable, match="contains itself"):
        value_digest(value)


def test_value_digest_refuses_what_is_nested_too_deep() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(Unhashable, match="too deep"):
        value_digest(value)
    while value:  # taken apart step by step: freeing it in one go would recurse as deep
        value = value.pop()


def test_value_digest_is_the_same_in_another_process() -> None:
    program = (
        "from tidewheel.fingerprint.value import value_digest\n"
        "print(value_digest([{'b', 'a', 'c'}, frozenset({1, 2}), {'x': (1, 2.5)}, range(9), int]))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    here = value_digest([{"b", "a", "c"}, frozenset({1, 2}), {"x": (1, 2.5)}, range(9), int])
    assert answers == {here + "\n"}
