"""What is no longer kept is deleted, and nothing that is needed."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import ManualClock
from tidewheel.data import datasets
from tidewheel.errors import InvalidInput, MissingBlob, StorageUnavailable
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.read import get_version, list_events
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle, save_bundle
from tidewheel.models.model import Model
from tidewheel.pipelines.collect import Collection, collect
from tidewheel.pipelines.executors.attempts import attempt_name, attempts_beside
from tidewheel.pipelines.executors.environments import READY
from tidewheel.pipelines.retention import Retention
from tidewheel.pipelines.runs import get_run, start_run
from tidewheel.registry.versions import register_model

NOTHING = Retention(keep_days=0, keep_runs=0)
ROWS = pl.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]})


def later(store: Store, days: float = 100) -> None:
    """Let time pass on the store's clock, well beyond the machine's own, which files are dated by."""
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(max(timedelta(days=days), datetime.now(UTC) - store.clock.now() + timedelta(days=days)))


def freed(found: Collection) -> dict[str, int]:
    """Return how many of each kind."""
    return {item.kind: item.count for item in found.freed if item.kind != "notes"}


@pytest.mark.parametrize("rules", [{"keep_days": -1}, {"keep_days": float("nan")}, {"keep_runs": -1}])
def test_rules_that_cannot_be_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="cannot be"):
        Retention(**rules)  # type: ignore[arg-type]


def test_young_and_newest_runs_stay(any_store: Store, sample: ModuleType) -> None:
    for depth in range(4):
        start_run(any_store, sample.tide, {"rows": ROWS, "depth": depth})
    assert freed(collect(any_store)) == {}
    later(any_store)
    found = collect(any_store, Retention(keep_days=30, keep_runs=4))
    assert (found.kept_runs, found.expired_runs, freed(found)) == (4, 0, {})


def test_a_dry_run_says_what_a_real_one_does_and_deletes_nothing(any_store: Store, sample: ModuleType) -> None:
    run = start_run(any_store, sample.tide, {"rows": ROWS})
    later(any_store)
    before = {blob.digest for blob in any_store.blobs.kept()}
    foretold = collect(any_store, NOTHING, dry=True)
    assert {blob.digest for blob in any_store.blobs.kept()} == before
    assert get_run(any_store, run.id).output == run.output
    done = collect(any_store, NOTHING)
    assert (foretold.freed, foretold.size) == (done.freed, done.size)
    assert foretold.dry
    assert not done.dry
    assert freed(done)["artifacts"] >= 3
    assert freed(done)["sources"] >= 1
    assert not list(any_store.blobs.kept())


def test_metadata_outlive_the_payload_and_say_when_it_went(any_store: Store, sample: ModuleType) -> None:
    run = start_run(any_store, sample.reporting, {"rows": ROWS})
    later(any_store)
    day = any_store.clock.now().date().isoformat()
    done = collect(any_store, NOTHING, by="ana")
    found = get_run(any_store, run.id)
    assert [step.name for step in found.steps] == [step.name for step in run.steps]
    with pytest.raises(MissingBlob, match=rf"payload of the artifact .* was collected on {day}.*\n.*keep_days"):
        _ = found.output
    with any_store.database.reading() as tx:
        stored = next(stored for step in run.steps for stored in step.outputs if stored.blobs)
        assert get_version(tx, stored.version_id).state == "DELETED"
        assert verify_chain(tx).intact
        events = [event for event in list_events(tx, subject_id=done.execution_id) if event.governs]
    assert [event.type for event in events] == ["collection.began", "artifacts.deleted", "collection.ended"]
    assert {event.by for event in events} == {"ana"}
    assert freed(collect(any_store, NOTHING)) == {}


def test_what_was_collected_lives_again_when_it_is_made_again(any_store: Store, sample: ModuleType) -> None:
    first = start_run(any_store, sample.tide, {"rows": ROWS})
    later(any_store)
    collect(any_store, NOTHING)
    second = start_run(any_store, sample.tide, {"rows": ROWS})
    assert second.output == first.output
    versions = {stored.version_id for step in second.steps for stored in step.outputs if stored.blobs}
    assert versions == {stored.version_id for step in first.steps for stored in step.outputs if stored.blobs}
    with any_store.database.reading() as tx:
        assert {get_version(tx, version).state for version in versions} == {"LIVE"}
    assert {step.state for step in second.steps} == {"COMMITTED"}


def test_datasets_models_and_the_runs_they_came_from_stay(store: Store, sample: ModuleType) -> None:
    datasets.register(store, "bikes", pl.DataFrame({"a": [1.0, 2.0], "b": [1, 2]}))
    run = start_run(store, sample.tide, {"rows": ROWS})
    other = start_run(store, sample.tide, {"rows": ROWS, "depth": 9})
    model = Model(LinearRegression().fit(ROWS, [1.0, 2.0, 3.0, 4.0]), example=ROWS)
    bundle = save_bundle(store, model, rows=ROWS)
    register_model(store, "bikes", bundle, run_id=run.id)
    later(store)
    found = collect(store, NOTHING)
    assert (found.kept_runs, found.expired_runs) == (1, 1)
    assert datasets.read(store, "bikes").height == 2
    load_bundle(store, bundle.digest).verify()
    assert get_run(store, run.id).output == run.output
    assert get_run(store, other.id).output == other.output, "small values stand in the row itself"


def test_the_blobs_of_a_cache_hit_stay_with_the_run_that_had_it(store: Store, sample: ModuleType) -> None:
    start_run(store, sample.tide, {"rows": ROWS})
    later(store)
    second = start_run(store, sample.tide, {"rows": ROWS})
    assert {step.state for step in second.steps} == {"CACHED"}
    later(store, 10)
    found = collect(store, Retention(keep_days=30, keep_runs=0))
    assert (found.expired_runs, "cache entries" in freed(found)) == (1, False)
    third = start_run(store, sample.tide, {"rows": ROWS})
    assert {step.state for step in third.steps} == {"CACHED"}


def test_what_was_just_written_is_spared(store: Store, sample: ModuleType) -> None:
    digest = store.blobs.put(b"by a step that has not committed yet")
    start_run(store, sample.tide, {"rows": ROWS})
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(datetime.now(UTC) - store.clock.now() + timedelta(minutes=1))
    found = collect(store, NOTHING)
    assert store.blobs.exists(digest)
    assert found.spared > 1
    later(store, 1)
    assert freed(collect(store, NOTHING))["leftovers"] == 1
    assert not store.blobs.exists(digest)


def test_a_digest_in_the_table_of_any_room_keeps_its_blob(store: Store) -> None:
    digest = store.blobs.put(b"a state of the loop")
    with store.database.transaction() as tx:
        tx.run(
            "INSERT INTO loop_state (model, revision, at, body) VALUES ('m', 1, 0, :body)", body=f'{{"x":"{digest}"}}'
        )
    later(store)
    collect(store, NOTHING)
    assert store.blobs.exists(digest)


def test_logs_and_what_can_be_made_again_go(store: Store, sample: ModuleType, tmp_path: Path) -> None:
    run = start_run(store, sample.writes_and_prints, {"folder": str(tmp_path)})
    log = Path(run.steps[0].log)
    assert log.is_file()
    old = [store.home / "environments" / name for name in ("abc", "def", "half")]
    for folder, proof in zip(old, ("ready", READY, "other"), strict=True):
        folder.mkdir(parents=True)
        (folder / proof).write_text("x")
        os.utime(folder / proof, (0, 0))
    later(store)
    found = freed(collect(store, NOTHING))
    assert (found["run folders"], found["environments"]) == (1, 2)
    assert not log.exists()
    assert [folder.exists() for folder in old] == [False, False, True]


def test_what_killed_writers_left_half_written_goes(store: Store, sample: ModuleType) -> None:
    start_run(store, sample.reporting, {"rows": ROWS})
    assert isinstance(store.blobs, FolderBlobs)
    places = [store.blobs.folder, next(store.blobs.folder.glob("??"))]
    for place in places:
        (place / ".partial-old").write_bytes(b"half")
        os.utime(place / ".partial-old", (0, 0))
        (place / ".partial-new").write_bytes(b"half")
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(datetime.now(UTC) - store.clock.now())
    found = freed(collect(store, Retention(grace=timedelta(minutes=1))))
    assert found["half-written files"] == 2
    assert sorted(path.name for path in store.blobs.folder.rglob(".partial-*")) == [".partial-new"] * 2


def test_manifests_that_the_journal_has_taken_in_and_messages_that_were_sent_go(
    any_store: Store, sample: ModuleType
) -> None:
    """What a worker left for a run that may still take it in stays, and so does what nobody was told yet."""
    run = start_run(any_store, sample.reporting, {"rows": ROWS})
    attempts = attempts_beside(any_store.blobs)
    taken, open_one = attempt_name(run.steps[0].id, 1), attempt_name("0199-not-known", 1)
    for name in (taken, open_one):
        attempts.leave(name, b"{}")
    with any_store.database.transaction() as tx:
        for sent in (1, None):
            tx.run("INSERT INTO outbox (sink, at, payload, stream, sent) VALUES ('x', 1, '{}', 'y', :sent)", sent=sent)
    assert freed(collect(any_store, Retention(keep_runs=0), dry=True)).get("manifests") is None
    later(any_store)
    for dry in (True, False):
        found = freed(collect(any_store, NOTHING, dry=dry))
        assert (found["manifests"], found["sent messages"]) == (1, 1)
    assert attempts.names("") == [open_one]
    with any_store.database.reading() as tx:
        assert [row["sent"] for row in tx.rows("SELECT sent FROM outbox")] == [None]


class Failing:
    """Blobs of which a deletion fails after so many went well, as when the process dies there."""

    def __init__(self, store: Store, after: int) -> None:
        self._blobs = store.blobs
        self._left = after

    def __getattr__(self, name: str) -> object:
        return getattr(self._blobs, name)

    def delete(self, digest: str, *, unused_since: datetime | None = None) -> bool:
        if self._left == 0:
            raise StorageUnavailable("The disk is gone.", "Bring it back.")
        self._left -= 1
        return self._blobs.delete(digest, unused_since=unused_since)


@pytest.mark.parametrize("after", range(5))
def test_a_collection_that_died_is_finished_by_the_next(any_store: Store, sample: ModuleType, after: int) -> None:
    from dataclasses import replace

    run = start_run(any_store, sample.reporting, {"rows": ROWS})
    later(any_store)
    with pytest.raises(StorageUnavailable):
        collect(replace(any_store, blobs=Failing(any_store, after)), NOTHING)  # type: ignore[arg-type]
    collect(any_store, NOTHING)
    assert not list(any_store.blobs.kept())
    versions = {stored.version_id for step in run.steps for stored in step.outputs if stored.blobs}
    with any_store.database.reading() as tx:
        assert {get_version(tx, version).state for version in versions} == {"DELETED"}
    again = start_run(any_store, sample.reporting, {"rows": ROWS})
    assert again.output["name"] == "first 4"


def test_runs_that_go_on_meanwhile_lose_nothing(any_store: Store, sample: ModuleType) -> None:
    """Collections without mercy beside runs that make the same and new values; the clock is ahead of every file."""
    start_run(any_store, sample.reporting, {"rows": ROWS})
    assert isinstance(any_store.clock, ManualClock)
    any_store.clock.advance(datetime.now(UTC) - any_store.clock.now())
    rules = Retention(keep_days=0, keep_runs=1, grace=timedelta(seconds=30))
    stop, trouble = threading.Event(), []

    def collecting() -> None:
        while not stop.is_set():
            try:
                collect(any_store, rules)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test must show it
                trouble.append(error)
                return

    for blob in any_store.blobs.kept():  # what lies there is old: only use saves it
        path = any_store.home / "blobs" / blob.digest[7:9] / blob.digest[9:]
        os.utime(path, (0, 0))
    thread = threading.Thread(target=collecting)
    thread.start()
    try:
        for number in range(12):
            rows = pl.DataFrame({"a": [float(number % 3), 2.0, 3.0]})
            run = start_run(any_store, sample.reporting, {"rows": rows})
            assert run.state == "SUCCEEDED"
            assert get_run(any_store, run.id).output["report"].rows.equals(rows)
    finally:
        stop.set()
        thread.join()
    assert not trouble
