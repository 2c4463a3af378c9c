"""Any ordered table becomes a stream; what cannot is refused with its mend."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tidewheel.demo.stream import digits_stream, table_stream, task_of
from tidewheel.errors import InvalidInput, NotFound


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "My rides-2.csv"
    rows = 120
    pl.DataFrame(
        {
            "at": [f"2026-01-{1 + n % 28:02d}T{n % 24:02d}:00:00" for n in range(rows)],
            "a": [float(n) for n in range(rows)],
            "secret": [n * 2 for n in range(rows)],
            "y": [n % 2 for n in range(rows)],
        }
    ).write_csv(path)
    return path


def test_digits_come_in_their_original_order() -> None:
    stream = digits_stream()
    assert (stream.frame.shape, stream.history, stream.live) == ((1797, 65), 500, 1297)
    assert stream.frame["digit"].head(10).to_list() == list(range(10))
    assert (stream.task, stream.metric) == ("multiclass", "accuracy")


def test_a_table_is_sorted_by_its_time_which_is_then_left_out(table: Path) -> None:
    stream = table_stream(table, time="at", label="y", history=60, drop=("secret",))
    assert stream.name == "my_rides_2"
    assert stream.frame.columns == ["a", "y"]
    order = pl.read_csv(table).sort("at", maintain_order=True)["a"]
    assert stream.frame["a"].to_list() == order.to_list()
    assert (stream.task, stream.live) == ("binary", 60)


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (pl.Series([0, 1, 1]), "binary"),
        (pl.Series(["a", "b", "c"]), "multiclass"),
        (pl.Series([0.5, 1.0, 2.0]), "regression"),
        (pl.Series(range(100)), "regression"),
        (pl.Series([0.0, 1.0]), "binary"),
        (pl.Series([True, False]), "binary"),
    ],
)
def test_the_label_tells_the_task(labels: pl.Series, task: str) -> None:
    assert task_of(labels) == task


def test_mistakes_are_named(table: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Did you mean 'at'"):
        table_stream(table, time="att", label="y", history=60)
    with pytest.raises(NotFound, match="column named 'z'"):
        table_stream(table, time="at", label="y", history=60, drop=("z",))
    with pytest.raises(InvalidInput, match="leaves nothing to arrive"):
        table_stream(table, time="at", label="y", history=120)
    with pytest.raises(InvalidInput, match="Drop fewer"):
        table_stream(table, time="at", label="y", history=60, drop=("a", "secret"))
    with pytest.raises(NotFound):
        table_stream(tmp_path / "nothing.csv", time="at", label="y", history=60)
    one = tmp_path / "one.csv"
    pl.DataFrame({"at": range(100), "a": range(100), "y": [0] * 60 + [1] * 40}).write_csv(one)
    with pytest.raises(InvalidInput, match="one value of y"):
        table_stream(one, time="at", label="y", history=50)
    hole = tmp_path / "hole.csv"
    pl.DataFrame({"at": range(100), "a": range(100), "y": [None, *range(99)]}).write_csv(hole)
    with pytest.raises(InvalidInput, match=r"1 rows of hole\.csv have no y"):
        table_stream(hole, time="at", label="y", history=50)
