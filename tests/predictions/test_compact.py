"""Compaction changes where records stand, never which records a reader meets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewheel.predictions.compact import compact, is_due
from tidewheel.predictions.frames import frame
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.log import LogWriter, read_log
from tidewheel.predictions.reader import LogReader
from tidewheel.predictions.records import Other, Outcome, Prediction, Value

DAY = datetime(2026, 3, 1, tzinfo=UTC)
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=5)
)
CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from tidewheel.predictions.compact import compact
print("begun", flush=True)
compact(Path(sys.argv[1]), now=datetime(2026, 3, 9, tzinfo=UTC))
"""


def at(hours: float) -> int:
    return int((DAY + timedelta(hours=hours)).timestamp() * 1e6)


def prediction(number: int, features: list[list[Value]] | None = None) -> Prediction:
    return Prediction(
        id=f"r{number}", at=at(number), model="m", version=1, arm="champion", propensity=0.9, unit="u", status=200,
        features=features or [[0.5, "x", None, True, number]], output=[number], probability=[[0.25, 0.75]],
        other=Other(version=2, output=[1.5]), redacted=(1,),
    )  # fmt: skip


def write(folder: Path, numbers: range, name: str = "w0", size: int = 900) -> None:
    writer = LogWriter(folder, name, segment_bytes=size)
    outcomes = LogWriter(folder, name, kind=Outcome, segment_bytes=size)
    for number in numbers:
        writer.append(prediction(number))
        writer.flush()
        outcomes.append(Outcome(id=f"r{number}", at=at(number), label=number % 3))
        outcomes.flush()
    writer.close()
    outcomes.close()


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.seg"))


def test_a_reader_meets_the_same_records_at_every_cursor(tmp_path: Path) -> None:
    write(tmp_path, range(60))
    reader = LogReader(tmp_path, Prediction)
    cursors = [reader.read(limit=each).cursor for each in range(0, 61, 7)]
    rest = [reader.read(cursor).records for cursor in cursors]
    whole, end = reader.read().records, reader.end()
    done = compact(tmp_path, now=DAY)
    assert (done.segments > 5, done.damaged) == (True, 0)
    assert len(segments(tmp_path)) == 2  # the last ones, which a writer may go on in
    assert reader.read().records == whole
    assert [reader.read(cursor).records for cursor in cursors] == rest
    assert reader.end() == end
    assert reader.read(end).records == []
    found: list[Prediction] = []
    cursor: dict[str, int] = {}
    while part := (batch := reader.read(cursor, limit=7)).records:
        found, cursor = found + part, batch.cursor
    assert found == whole


def test_outcomes_join_compacted_predictions(tmp_path: Path) -> None:
    write(tmp_path, range(60))
    joiner = Joiner(tmp_path)
    half = joiner.labelled(limit=25)
    before = joiner.labelled(half.cursor)
    compact(tmp_path, now=DAY)
    assert Joiner(tmp_path).labelled(half.cursor).rows == before.rows
    assert Joiner(tmp_path).labelled().rows == half.rows + before.rows


def test_files_are_parted_by_day_and_read_by_anybody(tmp_path: Path) -> None:
    write(tmp_path, range(60))
    LogWriter(tmp_path, "w0", segment_bytes=1).close()
    compact(tmp_path, now=DAY + timedelta(days=9))
    days = sorted(path.name for path in (tmp_path / "parquet").iterdir())
    assert days == ["day=2026-03-01", "day=2026-03-02", "day=2026-03-03"]
    table = pl.read_parquet(tmp_path / "parquet" / "day=2026-03-02" / "predictions-*.parquet")
    assert table["id"].to_list() == [f"r{number}" for number in range(24, 48)]
    assert table["features"][0] == '[[0.5,"x",null,true,24]]'
    assert table["raw"].is_null().all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=3), min_size=1, max_size=8))
def test_every_value_comes_back_bit_for_bit(rows: list[list[list[Value]]]) -> None:
    with TemporaryDirectory() as folder:
        place = Path(folder)
        writer = LogWriter(place, "w0", segment_bytes=1)
        for number, features in enumerate(rows):
            writer.append(prediction(number, features))
            writer.flush()
        writer.close()
        before = [repr(record) for record in read_log(place).records]
        assert compact(place, now=DAY).records == len(rows)
        assert [repr(record) for record in read_log(place).records] == before


def test_a_frame_that_holds_no_record_stays_among_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, range(3), size=10_000)
    path = tmp_path / segments(tmp_path)[-1]
    path.write_bytes(path.read_bytes() + frame(b"nonsense"))
    os.utime(path, (0, 0))
    reader = LogReader(tmp_path, Prediction)
    before = reader.read()
    compact(tmp_path, now=DAY)
    after = reader.read()
    assert (after.records, after.damaged) == (before.records, before.damaged)
    assert not path.exists()


def test_a_living_writer_is_left_alone_and_numbers_are_not_given_again(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "w0", segment_bytes=300)
    for number in range(5):
        writer.append(prediction(number))
        writer.flush()
        writer.sync()
    living = segments(tmp_path)[-1]
    compact(tmp_path, now=DAY)
    assert segments(tmp_path) in ([living], [])
    for path in tmp_path.glob("*.seg"):
        os.utime(path, (0, 0))
    compact(tmp_path, now=DAY + timedelta(days=9))
    cursor = LogReader(tmp_path, Prediction).end()
    writer.append(prediction(9))
    writer.close()
    again = LogWriter(tmp_path, "w0")
    again.append(prediction(10))
    again.close()
    assert [record.at for record in LogReader(tmp_path, Prediction).read(cursor).records] == [at(9), at(10)]


def test_what_two_compactions_left_is_read_once(tmp_path: Path) -> None:
    """A kill after the files are written and before the segment is gone leaves both."""
    write(tmp_path, range(30))
    kept = {path: path.read_bytes() for path in tmp_path.glob("*.seg")}
    whole = read_log(tmp_path)
    compact(tmp_path, now=DAY)
    for path, data in kept.items():
        path.write_bytes(data)
    assert read_log(tmp_path) == whole
    compact(tmp_path, now=DAY)
    assert read_log(tmp_path) == whole


@pytest.mark.slow
def test_kills_in_the_middle_lose_and_double_nothing(tmp_path: Path) -> None:
    write(tmp_path, range(2_000), size=20_000)
    whole = read_log(tmp_path).records
    for delay in range(8):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(delay * 0.03)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        assert read_log(tmp_path).records == whole
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=True, capture_output=True)
    assert read_log(tmp_path).records == whole
    assert len(segments(tmp_path)) == 2


def test_days_that_are_too_old_are_deleted_but_never_the_last_number(tmp_path: Path) -> None:
    write(tmp_path, range(24 * 9))
    end = LogReader(tmp_path, Prediction).end()
    for path in tmp_path.glob("*.seg"):
        os.utime(path, (0, 0))
    now = DAY + timedelta(days=9)
    assert is_due(tmp_path, now, 0)
    assert compact(tmp_path, now=now, days=3).deleted > 6
    assert not is_due(tmp_path, now, 3)
    assert min(record.at for record in read_log(tmp_path).records) == at(24 * 6)
    compact(tmp_path, now=now + timedelta(days=99), days=3)
    left = LogReader(tmp_path, Prediction)
    assert [max(end)] == list(left.end())
    writer = LogWriter(tmp_path, "w0")
    writer.append(prediction(1))
    writer.close()
    assert [record.id for record in left.read(end).records] == ["r1"]
