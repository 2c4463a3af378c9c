"""The log: nothing that was flushed is lost, nothing that is damaged is believed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.predictions.frames import frame
from tidewheel.predictions.log import LogWriter, read_log, read_outcomes
from tidewheel.predictions.reader import Cursor, LogReader
from tidewheel.predictions.records import Outcome, Prediction

CHILD = """
import sys
from pathlib import Path
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import Prediction

writer = LogWriter(Path(sys.argv[1]), "w0", segment_bytes=20_000)
for number in range(1_000_000):
    writer.append(Prediction(id=f"r{number}", at=number, model="m", version=1, arm="champion", propensity=1.0, unit="",
                             status=200, features=[[0.5] * 20], output=[1.0]))
    writer.flush()
    print(number, flush=True)
"""


def prediction(number: int, **changes: object) -> Prediction:
    fields: dict[str, object] = {
        "id": f"r{number}", "at": number, "model": "m", "version": 1, "arm": "champion", "propensity": 1.0, "unit": "",
        "status": 200, "features": [[float(number), "x"]], "output": [number],
    }  # fmt: skip
    return Prediction(**(fields | changes))  # type: ignore[arg-type]


def write(folder: Path, *numbers: int, name: str = "w0", **options: int) -> LogWriter:
    writer = LogWriter(folder, name, **options)  # type: ignore[arg-type]
    for number in numbers:
        writer.append(prediction(number))
        writer.flush()
    return writer


def numbers_in(folder: Path) -> list[int]:
    return [record.at for record in read_log(folder).records]


def only_segment(folder: Path) -> Path:
    (path,) = folder.glob("predictions-*.seg")
    return path


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    with_two = LogWriter(tmp_path, "w0")
    with_two.append(prediction(1))
    with_two.append(prediction(2))
    assert read_log(tmp_path).records == []  # nothing leaves memory before the flush
    with_two.flush()
    assert read_log(tmp_path).records == [prediction(1), prediction(2)]


def test_a_cursor_goes_on_where_it_stopped(tmp_path: Path) -> None:
    writer = write(tmp_path, 1, 2)
    records, cursor = read_log(tmp_path)
    assert read_log(tmp_path, cursor) == ([], cursor)
    writer.append(prediction(3))
    writer.flush()
    again, later = read_log(tmp_path, cursor)
    assert [record.at for record in (*records, *again)] == [1, 2, 3]
    assert later != cursor


def test_a_limit_reads_in_pieces_across_segments(tmp_path: Path) -> None:
    write(tmp_path, *range(50), segment_bytes=500)
    assert len(list(tmp_path.iterdir())) > 5
    found: list[int] = []
    cursor: Cursor = {}
    while True:
        records, cursor = read_log(tmp_path, cursor, limit=7)
        assert len(records) <= 7
        found += [record.at for record in records]
        if not records:
            break
    assert found == list(range(50))


def test_outcomes_stand_in_segments_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, 1)
    outcomes = LogWriter(tmp_path, "w0", kind=Outcome)
    outcomes.append(Outcome(id="r1", at=5, label="cat"))
    outcomes.close()
    assert read_outcomes(tmp_path).records == [Outcome(id="r1", at=5, label="cat")]
    assert numbers_in(tmp_path) == [1]


def test_a_writer_goes_on_in_its_segment(tmp_path: Path) -> None:
    write(tmp_path, 1).close()
    write(tmp_path, 2).close()
    assert numbers_in(tmp_path) == [1, 2]
    assert only_segment(tmp_path)


def test_a_torn_end_is_cut_off_on_opening(tmp_path: Path) -> None:
    write(tmp_path, 1, 2).close()
    segment = only_segment(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-3])
    assert numbers_in(tmp_path) == [1]
    writer = write(tmp_path, 3)
    assert numbers_in(tmp_path) == [1, 3]
    assert writer.torn == 1


def test_a_reader_in_front_of_a_torn_end_goes_on_after_recovery(tmp_path: Path) -> None:
    write(tmp_path, 1, 2).close()
    segment = only_segment(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-3])
    _, cursor = read_log(tmp_path)
    write(tmp_path, 3)
    assert [record.at for record in read_log(tmp_path, cursor).records] == [3]


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    first = write(tmp_path, 1)
    second = write(tmp_path, 2)
    first.append(prediction(3))
    first.flush()
    second.append(prediction(4))
    second.flush()
    assert sorted(numbers_in(tmp_path)) == [1, 2, 3, 4]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_frame_is_stepped_over_and_counted_once(tmp_path: Path) -> None:
    writer = write(tmp_path, 1, 2, 3)
    segment = only_segment(tmp_path)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    reader = LogReader(tmp_path, Prediction)
    batch = reader.read()
    assert [record.at for record in batch.records] == [1, 3]
    assert batch.damaged == 1
    assert reader.read(batch.cursor).damaged == 0
    writer.close()


def test_a_damaged_last_frame_is_counted_once_the_segment_is_ended(tmp_path: Path) -> None:
    writer = write(tmp_path, 1, 2, segment_bytes=100)  # the second frame ends the segment
    segment = only_segment(tmp_path)
    data = bytearray(segment.read_bytes())
    data[-20] ^= 0xFF
    segment.write_bytes(data)
    batch = LogReader(tmp_path, Prediction).read()
    assert ([record.at for record in batch.records], batch.damaged) == ([1], 1)
    assert batch.cursor == {segment.name: len(data)}
    writer.close()


def test_a_valid_frame_that_holds_no_record_is_counted(tmp_path: Path) -> None:
    write(tmp_path, 1).close()
    with only_segment(tmp_path).open("ab") as file:
        file.write(frame(b"\x93\x01\x02\x03") + frame(b"\xc1"))
    batch = LogReader(tmp_path, Prediction).read()
    assert ([record.at for record in batch.records], batch.damaged) == ([1], 2)


def test_frames_larger_than_a_chunk_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidewheel.predictions.reader.CHUNK_BYTES", 64)
    writer = write(tmp_path, 1)
    writer.append(prediction(2, features=[["long" * 200]]))
    writer.flush()
    writer.append(prediction(3))
    writer.flush()
    assert numbers_in(tmp_path) == [1, 2, 3]


def test_a_file_shorter_than_its_cursor_is_read_from_its_end(tmp_path: Path) -> None:
    writer = write(tmp_path, 1)
    _, cursor = read_log(tmp_path)
    ahead = {name: offset + 500 for name, offset in cursor.items()}
    records, back = read_log(tmp_path, ahead)
    assert records == []
    writer.append(prediction(2))
    writer.flush()
    assert [record.at for record in read_log(tmp_path, back).records] == [2]


def test_one_record_is_found_by_its_place(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    reader = LogReader(tmp_path, Prediction)
    places = [(found.segment, found.offset) for found in reader.frames().frames]
    assert [reader.at(*place) for place in places] == [prediction(1), prediction(2)]
    assert reader.at(places[0][0], 1) is None
    assert reader.at("predictions-00000009-w0.seg", 0) is None


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let the kernel take at most 2,000 bytes per file, in part, as a disk that fills up does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_gives_up_whole_records_and_heals(tmp_path: Path, small_files: None) -> None:
    writer = LogWriter(tmp_path, "w0")
    kept = []
    for number in range(200):
        writer.append(prediction(number))
        try:
            writer.flush()
            kept.append(number)
        except StorageUnavailable:
            pass
    assert 10 < len(kept) < 100
    assert numbers_in(tmp_path) == kept
    assert LogReader(tmp_path, Prediction).read().damaged == 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    writer.append(prediction(999))
    writer.flush()
    assert numbers_in(tmp_path) == [*kept, 999]


def test_a_folder_that_cannot_be_made_is_named_with_a_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    writer = LogWriter(tmp_path / "file" / "log", "w0")
    writer.append(prediction(1))
    with pytest.raises(StorageUnavailable, match=r"cannot be written.*\n.*write access"):
        writer.flush()


def test_a_deleted_segment_is_noticed(tmp_path: Path) -> None:
    writer = write(tmp_path, 1)
    only_segment(tmp_path).unlink()
    writer.sync()
    writer.append(prediction(2))
    writer.flush()
    assert numbers_in(tmp_path) == [2]


def test_strict_and_synced_logs_hold_the_same(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, "w0", strict=True, segment_bytes=300)
    for number in range(6):
        writer.append(prediction(number))
        writer.flush()
        writer.sync()
    writer.close()
    assert numbers_in(tmp_path) == list(range(6))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    writer = write(tmp_path, *range(30), segment_bytes=300)
    writer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_a_writer_name_must_be_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="letters, digits"):
        LogWriter(tmp_path, name)


def test_a_killed_writer_loses_nothing_it_confirmed_and_is_read_meanwhile(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        confirmed, seen = -1, list[int]()
        cursor: Cursor = {}
        for line in child.stdout:
            confirmed = int(line)
            if confirmed % 50 == 0:
                records, cursor = read_log(tmp_path, cursor)
                seen += [record.at for record in records]
                assert seen == list(range(len(seen)))
                assert len(seen) > confirmed
            if confirmed >= 400:
                os.kill(child.pid, signal.SIGKILL)
                break
        rest = child.stdout.read().split()
    confirmed = max([confirmed, *map(int, rest)])
    records, _ = read_log(tmp_path, cursor)
    seen += [record.at for record in records]
    assert seen == list(range(len(seen)))
    assert len(seen) >= confirmed + 1
    assert numbers_in(tmp_path) == seen
