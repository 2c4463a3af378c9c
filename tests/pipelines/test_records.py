"""Records that steps give: their fields are handles, each read alone; handles in records are inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypedDict

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tidewheel.blobs.store import MemoryBlobs
from tidewheel.lineage.read import get_version
from tidewheel.lineage.store import Store
from tidewheel.pipelines.calls import Output
from tidewheel.pipelines.handle import Record, sources_in, value
from tidewheel.pipelines.parts import Part
from tidewheel.pipelines.runs import get_run, start_run
from tidewheel.pipelines.shape import shape_of
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.tree import decode, encode, encode_record, stored_part

ROWS = pl.DataFrame({"a": [1.0, 2.0, 4.0]})


@dataclass
class Parted:
    rows: pl.DataFrame
    note: str


class Couple(NamedTuple):
    rows: pl.DataFrame
    note: str


class Typed(TypedDict, total=False):
    note: str


class CountingBlobs(MemoryBlobs):
    """Notes what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, digest: str) -> bytes:
        self.read.append(digest)
        return super().get(digest)


@pytest.fixture
def blobs() -> CountingBlobs:
    return CountingBlobs()


@pytest.fixture
def shelf(blobs: CountingBlobs, tmp_path: Path) -> Shelf:
    return Shelf(blobs=blobs, files=tmp_path)


@pytest.mark.parametrize(
    "record", [Parted(ROWS, "x" * 2000), Couple(ROWS, "x" * 2000), {"rows": ROWS, "note": "x" * 2000}]
)
def test_a_field_is_read_without_the_others(shelf: Shelf, blobs: CountingBlobs, record: Any) -> None:
    stored = encode_record(record, shelf)
    rows, note = stored_part(stored, "rows", shelf), stored_part(stored, "note", shelf)
    assert rows is not None
    assert note is not None
    blobs.read.clear()
    assert decode(note, shelf) == "x" * 2000
    assert blobs.read == [note.digest]
    assert_frame_equal(decode(rows, shelf), ROWS)
    assert type(decode(stored, shelf)) is type(record)
    assert stored.content == encode(record, shelf).content, (
        "what a record is known by does not depend on how it is kept"
    )
    assert rows.content == encode(ROWS, shelf).content


def test_what_is_no_record_is_kept_whole(shelf: Shelf) -> None:
    class Local:
        pass

    for item in (3, [1], {1: 2}, {}, {"$": 1}):
        assert encode_record(item, shelf) == encode(item, shelf, paths=True)
        assert stored_part(encode_record(item, shelf), "rows", shelf) is None
    assert encode_record(Local(), shelf).codec == "pickle"


def test_a_part_of_a_value_kept_whole_is_taken_out_of_it(shelf: Shelf) -> None:
    whole = Output(shelf)
    whole.settle(encode(Parted(ROWS, "old"), shelf))  # as an earlier release kept it
    part = Part(whole, "note", shelf, by_item=False)
    assert (part.get(), part.fresh(), decode(part.stored, shelf)) == ("old", "old", "old")


@pytest.mark.parametrize(
    ("annotation", "names"),
    [(Parted, ("rows", "note")), (Couple, ("rows", "note")), (Typed, ()), (dict[str, int], ()), (int, ()), (None, ())],
)
def test_the_fields_are_those_that_the_annotation_declares(annotation: Any, names: tuple[str, ...]) -> None:
    def made() -> Any: ...

    made.__annotations__["return"] = annotation
    assert shape_of(made).names == names


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_records_work_as_inputs_and_outputs(store: Store, values: ModuleType, executor: str) -> None:
    run = start_run(store, values.records, {"rows": ROWS}, executor=executor)
    output = run.output
    whole = output.pop("whole")
    assert output == {
        "train": 3.0,
        "span": 3.0,
        "rows": 4.0,
        "count": 1,
        "weighed": 8.0,
        "kind": "Named",
        "height": 3,
    }
    assert type(whole) is values.Split
    assert_frame_equal(whole.test, ROWS.slice(2))
    again = start_run(store, values.records, {"rows": ROWS}, executor=executor)
    assert {step.state for step in again.steps} == {"CACHED"}
    assert_frame_equal(again.output["whole"].train, ROWS.head(2))


def test_a_step_given_a_field_used_the_version_of_the_record(store: Store, values: ModuleType) -> None:
    run = start_run(store, values.records, {"rows": ROWS})
    steps = {step.name: step for step in get_run(store, run.id).steps}
    (made,) = steps["split"].outputs
    with store.database.reading() as tx:
        used = tx.rows(
            "SELECT dst FROM edge WHERE relation = 'used' AND src = :step AND role = 'rows'", step=steps["total"].id
        )
        assert [row["dst"] for row in used] == [made.version_id]
        assert get_version(tx, made.version_id).digest == made.digest


class Later:
    def __init__(self, item: Any) -> None:
        self.item, self.asked = item, 0

    def get(self) -> Any:
        self.asked += 1
        return self.item


def test_the_fields_of_a_record_do_not_wait_until_they_are_touched() -> None:
    from tidewheel.pipelines.handle import Fields, Handle

    whole, parts = Later(Couple(ROWS, "n")), {"rows": Later(ROWS), "note": Later("n")}
    fields = Fields(("rows", "note"), lambda name: Handle(parts[name]), in_order=True)
    record: Any = Record(whole, fields)
    rows, note = record
    assert (len(record), record[1] is note, record.rows is rows, record[-2] is rows) == (2, True, True, True)
    assert [source.asked for source in (whole, *parts.values())] == [0, 0, 0]
    assert note == "n"
    assert [source.asked for source in (whole, *parts.values())] == [0, 0, 1]
    assert isinstance(record, Couple)
    assert record._fields == ("rows", "note")
    assert whole.asked >= 1
    assert sources_in([record]) == [whole]
    assert value({"a": record})["a"] is whole.item
