"""Objects of a real S3 protocol: new ones and those written over count once, by their tag."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tidewheel.clock import ManualClock
from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.testing.triggers import Asking
from tidewheel.triggers import Policy, Schedule, event, objects
from tidewheel.triggers.tick import tick

Book = Callable[[], list[str]]


@pytest.fixture
def bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket, as a file system, and how to reach it."""
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    files = s3fs.S3FileSystem(endpoint_url=s3_url, use_listings_cache=False)
    if files.exists("arrivals"):
        files.rm("arrivals", recursive=True)
    files.mkdir("arrivals")
    return files


def make(project: ModuleType, s3_url: str, **options: Any) -> Schedule:
    rule = objects("s3://arrivals/in", look_every=0, endpoint_url=s3_url, **options)
    return Schedule(
        project.keep_books,
        on=[rule],
        name="objects",
        parameters={"paths": event("objects")},
        policy=Policy(one_at_a_time=False),
    )


@pytest.mark.services
def test_new_objects_and_those_written_over_count_once(
    any_store: Store, project: ModuleType, book: Book, bucket: Any, s3_url: str
) -> None:
    schedule = make(project, s3_url, match="*.parquet")
    assert tick(any_store, [schedule])[0].reason == "no new object among 0"
    bucket.pipe({"arrivals/in/a.parquet": b"1", "arrivals/in/b/c.parquet": b"1", "arrivals/in/d.txt": b"1"})
    bucket.pipe({"arrivals/out/e.parquet": b"1"})
    tick(any_store, [schedule])
    assert book() == ["a.parquet,c.parquet"]
    bucket.pipe({"arrivals/in/a.parquet": b"2"})  # of the same size
    bucket.pipe({"arrivals/in/b/c.parquet": b"1"})  # of the same content
    tick(any_store, [make(project, s3_url, match="*.parquet")])  # declared anew, as after a restart
    assert book() == ["a.parquet,c.parquet", "a.parquet"]


@pytest.mark.services
def test_each_object_may_have_a_run_and_old_ones_may_not_count(
    store: Store, project: ModuleType, book: Book, bucket: Any, s3_url: str
) -> None:
    schedule = make(project, s3_url, each=True, existing=False)
    bucket.pipe({"arrivals/in/old": b"1"})
    tick(store, [schedule])
    bucket.pipe({f"arrivals/in/new{number}": b"1" for number in range(3)})
    assert [report.verdict for report in tick(store, [schedule])] == ["fired"] * 3
    assert sorted(book()) == ["new0", "new1", "new2"]


def test_a_listing_is_kept_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    rule = objects(f"file://{tmp_path}", look_every="1h")
    asking = Asking(ManualClock().now(), {rule.name: True})
    assert len(rule.look(asking).items) == 1
    (tmp_path / "b").write_text("1")
    assert len(rule.look(asking).items) == 1
    assert len(objects(f"file://{tmp_path}", look_every=0).look(asking).items) == 2


def test_a_store_that_does_not_answer_is_trouble(store: Store, project: ModuleType, book: Book) -> None:
    rule = objects("s3://arrivals/in", look_every=0, endpoint_url="http://127.0.0.1:9", key="k", secret="s")
    with pytest.raises(StorageUnavailable, match="cannot be listed"):
        rule.look(Asking(ManualClock().now()))
    schedule = Schedule(project.keep_books, on=[rule], name="far")
    (report,) = tick(store, [schedule])
    assert report.verdict == "trouble"
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(hours=1))
    assert tick(store, [schedule])[0].verdict == "trouble"


def test_a_folder_is_watched_by_files() -> None:
    with pytest.raises(InvalidInput, match="files"):
        objects("inbox/*.csv")
