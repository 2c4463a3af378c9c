"""Datasets over their life: register, append, read, refuse, and what the graph knows of it."""

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.store import MemoryBlobs
from tidewheel.clock import ManualClock, new_id
from tidewheel.data import datasets
from tidewheel.data.findings import errors_of
from tidewheel.data.segments import PACK, load_manifest
from tidewheel.errors import Conflict, CorruptBlob, InvalidInput, NotFound, StorageUnavailable, ValidationFailed
from tidewheel.lineage.graph import graph
from tidewheel.lineage.read import list_events, list_executions
from tidewheel.lineage.store import Store
from tidewheel.stats.profile import profile_frame

START = datetime(2026, 1, 1, tzinfo=UTC)


def rows(first: int, count: int) -> pl.DataFrame:
    moments = [START + timedelta(hours=first + i) for i in range(count)]
    return pl.DataFrame(
        {
            "at": pl.Series(moments, dtype=pl.Datetime("us", "UTC")),
            "hour": [(first + i) % 24 for i in range(count)],
            "temp": [float((first + i) * 7 % 31) for i in range(count)],
            "sky": [("clear", "rain")[(first + i) % 2] for i in range(count)],
            "cnt": [(first + i) % 5 for i in range(count)],
        }
    )


@pytest.fixture
def bikes(store: Store) -> Store:
    datasets.register(store, "bikes", rows(0, 100), time="at", label="cnt", by="eva")
    return store


def test_a_dataset_is_registered_appended_and_read(any_store: Store) -> None:
    first = datasets.register(any_store, "bikes", rows(0, 100), time="at", label="cnt", owner="eva", by="eva")
    second = datasets.append(any_store, "bikes", rows(100, 20), by="eva")
    assert (first.seq, first.rows, first.added, first.segments) == (1, 100, 100, 1)
    assert (second.seq, second.rows, second.added, second.segments) == (2, 120, 20, 2)
    assert (second.time, second.label, second.reference) == ("at", "cnt", "bikes:2")
    assert datasets.read(any_store, "bikes").equals(rows(0, 120))
    assert datasets.read(any_store, "bikes:1").equals(rows(0, 100))
    assert datasets.get(any_store, "bikes") == second
    assert datasets.list_datasets(any_store) == [second]
    assert datasets.versions_of(any_store, "bikes") == [second, first]
    assert [validation.accepted for validation in datasets.validations_of(any_store, "bikes")] == [True, True]


def test_the_same_rows_again_change_nothing(any_store: Store) -> None:
    datasets.register(any_store, "bikes", rows(0, 100), time="at", label="cnt")
    second = datasets.append(any_store, "bikes", rows(100, 20))
    assert datasets.append(any_store, "bikes", rows(100, 20)) == second
    assert datasets.append(any_store, "bikes", rows(0, 100)) == second
    assert len(datasets.versions_of(any_store, "bikes")) == 2


def test_equal_content_has_an_equal_digest_under_any_name(store: Store) -> None:
    a = datasets.register(store, "a", rows(0, 50))
    b = datasets.register(store, "b", rows(0, 50).to_pandas())
    assert a.digest == b.digest


def test_the_profile_of_a_version_is_that_of_all_its_rows(bikes: Store) -> None:
    datasets.append(bikes, "bikes", rows(100, 37))
    datasets.append(bikes, "bikes", rows(137, 5))
    merged = datasets.profile_of(bikes, "bikes")
    whole = profile_frame(rows(0, 142), edges_from=datasets.profile_of(bikes, "bikes:1"))
    assert merged.rows == 142
    for name, column in whole.columns.items():
        assert merged.columns[name].cells == column.cells
        assert merged.columns[name].spread == column.spread
        assert merged.columns[name].mean == (None if column.mean is None else pytest.approx(column.mean))


def test_appending_never_reads_rows_kept_before(store: Store) -> None:
    blobs = MemoryBlobs()
    memory = Store(database=store.database, blobs=blobs, clock=store.clock, home=store.home)
    first = datasets.register(memory, "bikes", rows(0, 100), time="at")
    segment = load_manifest(blobs, first.digest).segments[0].digest
    blobs.delete(segment)
    assert datasets.append(memory, "bikes", rows(100, 20)).rows == 120


def test_many_small_appends_are_packed_and_nothing_is_lost(store: Store) -> None:
    memory = Store(database=store.database, blobs=MemoryBlobs(), clock=store.clock, home=store.home)
    datasets.register(memory, "bikes", rows(0, 10), time="at")
    for index in range(PACK + 5):
        version = datasets.append(memory, "bikes", rows(10 + index, 1))
    assert version.segments == 1 + 5 + 1
    assert datasets.read(memory, "bikes").equals(rows(0, 10 + PACK + 5))
    assert datasets.read(memory, f"bikes:{PACK - 2}").height == 10 + PACK - 3
    assert datasets.append(memory, "bikes", rows(10, 1)).seq == version.seq
    assert datasets.profile_of(memory, "bikes").rows == 10 + PACK + 5


def test_reading_takes_the_latest_rows_or_those_before_a_moment(bikes: Store) -> None:
    datasets.append(bikes, "bikes", rows(100, 20))
    assert datasets.read(bikes, "bikes", last=5).equals(rows(115, 5))
    assert datasets.read(bikes, "bikes", last=30).equals(rows(90, 30))
    assert datasets.read(bikes, "bikes", before=START + timedelta(hours=103)).equals(rows(0, 103))
    assert datasets.read(bikes, "bikes", before=START + timedelta(hours=103), last=10).equals(rows(93, 10))
    nothing = datasets.read(bikes, "bikes", before=START)
    assert nothing.height == 0
    assert nothing.schema == rows(0, 1).schema


def test_late_rows_are_found_and_sorted_in(bikes: Store) -> None:
    datasets.append(bikes, "bikes", rows(120, 10))
    version = datasets.append(bikes, "bikes", rows(100, 20))
    assert ("late", "warning") in {(item.code, item.severity) for item in datasets.findings_of(bikes, "bikes")}
    assert datasets.read(bikes, "bikes").equals(rows(0, 130))
    assert datasets.read(bikes, "bikes", last=12).equals(rows(118, 12))
    assert version.rows == 130


@pytest.mark.parametrize(
    ("reference", "options", "told"),
    [
        ("bikes", {"last": 0}, "Ask for 1 or more"),
        ("bikes", {"before": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001 - the caller's mistake
        ("plain", {"before": START}, "no time column"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(
    bikes: Store, reference: str, options: dict[str, object], told: str
) -> None:
    datasets.register(bikes, "plain", rows(0, 3))
    with pytest.raises(InvalidInput, match=told):
        datasets.read(bikes, reference, **options)  # type: ignore[arg-type]


def test_unknown_names_are_answered_with_near_ones(bikes: Store) -> None:
    for call in (datasets.read, datasets.get, datasets.profile_of, datasets.findings_of, datasets.schema_of):
        with pytest.raises(NotFound, match="Did you mean 'bikes'"):
            call(bikes, "bike")
    with pytest.raises(NotFound, match="Did you mean 'bikes'"):
        datasets.append(bikes, "bike", rows(0, 1))
    with pytest.raises(NotFound, match="newest is 1"):
        datasets.get(bikes, "bikes:7")
    with pytest.raises(InvalidInput, match="Use 'bikes'"):
        datasets.append(bikes, "bikes:1", rows(0, 1))
    with pytest.raises(InvalidInput, match="cannot be the name"):
        datasets.register(bikes, "two words", rows(0, 1))


def test_a_name_is_taken_once(bikes: Store) -> None:
    with pytest.raises(Conflict, match="exists already"):
        datasets.register(bikes, "bikes", rows(0, 1))


def test_rows_that_do_not_fit_are_refused_and_the_findings_kept(any_store: Store) -> None:
    datasets.register(any_store, "bikes", rows(0, 100), time="at", label="cnt")
    bad = rows(100, 30).drop("hour").with_columns(temp=pl.lit("warm"), sky=pl.lit("hail"))
    with pytest.raises(ValidationFailed, match="2 errors") as caught:
        datasets.append(any_store, "bikes", bad, by="eva")
    assert "severity" in str(caught.value)
    findings = datasets.findings_of(any_store, "bikes")
    assert list(caught.value.findings) == findings
    assert {(item.column, item.code) for item in errors_of(findings)} == {("hour", "missing"), ("temp", "mistyped")}
    assert datasets.get(any_store, "bikes").seq == 1
    assert datasets.findings_of(any_store, "bikes:1") == []
    assert not datasets.validations_of(any_store, "bikes")[0].accepted
    with any_store.database.reading() as tx:
        event = list_events(tx, type_prefix="dataset.refused")[0]
        execution = list_executions(tx, "ingestion", job="bikes")[0]
    assert event.body == {"name": "bikes", "errors": 2, "codes": ["missing", "mistyped"]}
    assert event.by == "eva"
    assert execution.state == "FAILED"
    assert execution.id == event.execution_id


def test_a_refused_first_version_leaves_findings_and_no_dataset(store: Store) -> None:
    with pytest.raises(ValidationFailed, match="nothing to learn"):
        datasets.register(store, "bikes", rows(0, 10).with_columns(cnt=pl.lit(1)), label="cnt")
    assert datasets.list_datasets(store) == []
    assert [item.code for item in errors_of(datasets.findings_of(store, "bikes"))] == ["one_class"]
    assert [blob.digest for blob in store.blobs.kept()] == []
    kept = datasets.register(store, "bikes", rows(0, 10).with_columns(cnt=pl.lit(1)), label="cnt", strict=False)
    assert kept.seq == 1


def test_rows_can_be_kept_in_spite_of_errors_but_not_of_wrong_types(bikes: Store) -> None:
    version = datasets.append(bikes, "bikes", rows(100, 30).drop("hour"), strict=False)
    assert version.rows == 130
    assert datasets.read(bikes, "bikes")["hour"].null_count() == 30
    assert datasets.profile_of(bikes, "bikes").columns["hour"].nulls == 30
    with pytest.raises(ValidationFailed, match="mistyped"):
        datasets.append(bikes, "bikes", rows(130, 30).with_columns(temp=pl.lit("warm")), strict=False)
    with pytest.raises(InvalidInput, match="right file"):
        datasets.append(bikes, "bikes", pl.DataFrame({"other": [1]}), strict=False)


def test_columns_and_types_may_evolve(bikes: Store) -> None:
    datasets.register(bikes, "gap", pl.DataFrame({"a": [1, 2], "b": [None, None]}))
    datasets.append(bikes, "gap", pl.DataFrame({"a": [0.5], "b": ["x"], "c": [True]}), evolve=True)
    frame = datasets.read(bikes, "gap")
    assert frame.rows() == [(1.0, None, None), (2.0, None, None), (0.5, "x", True)]
    assert [column.type for column in datasets.schema_of(bikes, "gap").columns] == ["float", "string", "boolean"]
    datasets.append(bikes, "gap", pl.DataFrame({"a": [7], "b": [None], "c": [False], "d": [1]}))
    assert datasets.read(bikes, "gap").columns == ["a", "b", "c"]
    assert datasets.read(bikes, "gap:1").rows() == [(1, None), (2, None)]


def test_nested_columns_are_kept(store: Store) -> None:
    frame = pl.DataFrame({"id": [1, 2], "tags": [["a"], []], "place": [{"x": 1}, {"x": 2}]})
    datasets.register(store, "nested", frame)
    datasets.append(store, "nested", frame.with_columns(id=pl.col("id") + 2))
    assert datasets.read(store, "nested")["place"].to_list() == [{"x": 1}, {"x": 2}] * 2
    with pytest.raises(ValidationFailed, match="mistyped"):
        datasets.append(store, "nested", frame.with_columns(tags=pl.lit(1)))


def test_unreadable_input_leaves_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(InvalidInput, match="Line 3"):
        datasets.register(store, "ragged", tmp_path / "ragged.csv")
    with pytest.raises(NotFound, match="Did you mean 'hour'"):
        datasets.register(store, "bikes", rows(0, 3), time="hours")
    assert datasets.list_datasets(store) == []
    assert [blob.digest for blob in store.blobs.kept()] == []


def test_text_columns_of_later_files_stay_text(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("zip,n\nA1,1\nB2,2\n")
    (tmp_path / "b.csv").write_text("zip,n\n00501,\n10115,2.0\n")
    datasets.register(store, "towns", tmp_path / "a.csv")
    datasets.append(store, "towns", tmp_path / "b.csv")
    assert datasets.read(store, "towns").rows() == [("A1", 1), ("B2", 2), ("00501", None), ("10115", 2)]


def test_where_rows_came_from_stands_in_the_graph(bikes: Store) -> None:
    source = datasets.get(bikes, "bikes")
    made = datasets.register(bikes, "clean", rows(0, 50), derived_from=[source.version_id], by="eva")
    later = datasets.append(bikes, "clean", rows(50, 10), derived_from=[source.version_id])
    with bikes.database.reading() as tx:
        above = graph(tx, later.version_id, down=False)
        executions = list_executions(tx, "ingestion", job="clean")
        events = list_events(tx, type_prefix="dataset.")
    relations = {(edge.src, edge.relation, edge.dst) for edge in above.edges}
    assert (later.version_id, "supersedes", made.version_id) in relations
    assert (later.version_id, "derived", source.version_id) in relations
    assert (later.version_id, "generated", executions[0].id) in relations
    assert (executions[0].id, "used", source.version_id) in relations
    assert executions[1].parameters == {"source": "frame:polars", "form": "frame", "by": "eva"}
    assert [event.type for event in events] == ["dataset.registered", "dataset.registered", "dataset.appended"]


def test_rows_and_the_callers_progress_are_kept_together(any_store: Store) -> None:
    datasets.register(any_store, "bikes", rows(0, 100), time="at", label="cnt")

    def append_and_crash() -> None:
        with any_store.database.transaction() as tx:
            datasets.append_in(tx, any_store, "bikes", rows(100, 5))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append_and_crash()
    assert datasets.get(any_store, "bikes").seq == 1
    with any_store.database.transaction() as tx:
        datasets.append_in(tx, any_store, "bikes", rows(100, 5))
        version = datasets.append_in(tx, any_store, "bikes", rows(100, 5))
    assert (version.seq, version.rows) == (3, 110)
    with pytest.raises(ValidationFailed), any_store.database.transaction() as tx:
        datasets.append_in(tx, any_store, "bikes", rows(105, 5).drop("cnt"))
    assert errors_of(datasets.findings_of(any_store, "bikes")) == []
    kept = datasets.keep_refusal(any_store, "bikes", rows(105, 5).drop("cnt"))
    assert datasets.findings_of(any_store, "bikes") == kept
    assert kept[0].code == "missing"


def test_a_damaged_segment_is_detected(bikes: Store) -> None:
    segment = load_manifest(bikes.blobs, datasets.get(bikes, "bikes").digest).segments[0]
    assert isinstance(bikes.blobs, FolderBlobs)
    text = segment.digest.removeprefix("sha256:")
    path = bikes.blobs.folder / text[:2] / text[2:]
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptBlob, match=text):
        datasets.read(bikes, "bikes")


@pytest.fixture
def readonly() -> Iterator[Path]:
    """A folder that this process cannot write, also when the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65_534)
        try:
            yield folder
        finally:
            if user == 0:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_readonly_folder_is_named_and_nothing_is_recorded(store: Store, readonly: Path) -> None:
    sealed = Store(database=store.database, blobs=FolderBlobs(readonly), clock=store.clock, home=store.home)
    with pytest.raises(StorageUnavailable, match="folder writable"):
        datasets.register(sealed, "bikes", rows(0, 10))
    assert datasets.list_datasets(store) == []


def test_versions_carry_the_time_of_the_clock(bikes: Store) -> None:
    assert isinstance(bikes.clock, ManualClock)
    bikes.clock.advance(timedelta(days=3))
    version = datasets.append(bikes, "bikes", rows(100, 1))
    assert version.at - datasets.get(bikes, "bikes:1").at == timedelta(days=3)


def test_ranges_and_categories_of_the_schema_grow_with_the_data(bikes: Store) -> None:
    grown = rows(100, 60).with_columns(temp=pl.col("temp") + 100, sky=pl.lit("hail"))
    datasets.append(bikes, "bikes", grown)
    codes = {item.code for item in datasets.findings_of(bikes, "bikes:2")}
    assert {"range", "unseen"} <= codes
    datasets.append(bikes, "bikes", grown.with_columns(at=pl.col("at") + timedelta(days=90), hour=pl.lit(3)))
    assert {"range", "unseen"}.isdisjoint(item.code for item in datasets.findings_of(bikes, "bikes:3"))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_rows_are_cut_reading_gives_them_back(store: Store, sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    frame = pl.DataFrame({"x": rng.normal(size=total), "id": [f"{seed}-{i}" for i in range(total)]})
    memory = Store(database=store.database, blobs=MemoryBlobs(), clock=store.clock, home=store.home)
    name, start = f"cut-{new_id()}", 0
    for size in sizes:
        part = frame[start : start + size]
        start += size
        datasets.append(memory, name, part) if start > size else datasets.register(memory, name, part)
    assert datasets.read(memory, name).equals(frame)
    assert datasets.read(memory, name, last=total).equals(frame)
    last = int(rng.integers(1, total + 1))
    assert datasets.read(memory, name, last=last).equals(frame.tail(last))
