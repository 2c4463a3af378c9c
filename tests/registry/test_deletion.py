"""What was deleted is not used, can be taken back, and goes with the collector."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tidewheel.clock import ManualClock
from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.pipelines.collect import collect
from tidewheel.pipelines.retention import Retention
from tidewheel.registry.aliases import current_aliases, rollback, set_alias
from tidewheel.registry.deletion import delete_version, undelete_version
from tidewheel.registry.promotion import promote
from tidewheel.registry.promotion import rollback as roll_back
from tidewheel.registry.traffic import set_traffic
from tidewheel.registry.versions import get_model, list_models, list_versions, register_model

if TYPE_CHECKING:
    from tests.registry.conftest import BundleOf

RULES = Retention(keep_days=10, keep_runs=0, grace=timedelta())


def _days(store: Store, days: float) -> None:
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(days=days))


def _collect(store: Store) -> None:
    """Collect as if nobody had used a blob since 1970."""
    for file in (store.home / "blobs").rglob("*"):
        if file.is_file():
            os.utime(file, (0, 0))
    collect(store, RULES)


def _delete(store: Store, seq: int) -> None:
    delete_version(store, "bikes", seq, by="ann", reason="leaks the label", force=True)


def test_deleted_version_cannot_be_loaded_promoted_or_pointed_to(any_bikes: Store) -> None:
    _delete(any_bikes, 3)
    with pytest.raises(Conflict, match=r"bikes:3 was deleted by ann .*leaks the label"):
        get_model(any_bikes, "bikes:3")
    with pytest.raises(Conflict, match="tidewheel models undelete bikes 3"):
        promote(any_bikes, "bikes", 3, by="ann", reason="why not")
    with pytest.raises(Conflict, match="was deleted"):
        set_alias(any_bikes, "bikes", "prod", 3, by="ann", reason="why not")
    with pytest.raises(Conflict, match="was deleted"):
        set_traffic(any_bikes, "bikes", champion=1, challenger=3, share=0.1)
    assert get_model(any_bikes, "bikes").seq == 2
    assert [item.seq for item in list_versions(any_bikes, "bikes")] == [2, 1]
    assert [item.seq for item in list_versions(any_bikes, "bikes", deleted=True)] == [3, 2, 1]
    gone = get_model(any_bikes, "bikes:3", deleted=True).deleted
    assert gone is not None
    assert (gone.by, gone.reason, gone.collected) == ("ann", "leaks the label", "")


def test_number_of_a_deleted_version_is_never_given_again(bikes: Store, bundle_of: BundleOf) -> None:
    _delete(bikes, 3)
    assert register_model(bikes, "bikes", bundle_of(bikes, 4.0)).seq == 4
    for seq in (1, 2, 4):
        _delete(bikes, seq)
    assert list_models(bikes) == []


def test_version_in_use_is_not_deleted(any_bikes: Store) -> None:
    promote(any_bikes, "bikes", 1, by="ann", reason="first")
    set_alias(any_bikes, "bikes", "prod", 2, by="ann", reason="second")
    with pytest.raises(Conflict, match="bikes:1 is champion"):
        _delete(any_bikes, 1)
    with pytest.raises(Conflict, match="bikes:2 is prod"):
        _delete(any_bikes, 2)
    set_traffic(any_bikes, "bikes", champion=1, challenger=3, share=0.1)
    with pytest.raises(Conflict, match="Traffic goes to bikes:3"):
        _delete(any_bikes, 3)
    assert len(list_versions(any_bikes, "bikes")) == 3


def test_young_version_is_deleted_by_force_with_a_reason_alone(bikes: Store) -> None:
    with pytest.raises(Conflict, match="kept for 30 days"):
        delete_version(bikes, "bikes", 1, by="ann", reason="old")
    with pytest.raises(InvalidInput, match="needs a reason"):
        delete_version(bikes, "bikes", 1, by="ann", reason=" ", force=True)
    _days(bikes, 30)
    delete_version(bikes, "bikes", 1, by="ann", reason="old")
    with pytest.raises(NotFound, match="'7'"):
        delete_version(bikes, "bikes", 7, by="ann", reason="old")


def test_deleting_and_taking_back_govern_and_happen_once(any_bikes: Store) -> None:
    for _ in range(2):
        _delete(any_bikes, 1)
    for _ in range(2):
        assert undelete_version(any_bikes, "bikes", 1, by="bo", reason="was right").deleted is None
    with any_bikes.database.reading() as tx:
        told = [(event.type, event.by) for event in list_events(tx, type_prefix="model.") if event.governs]
        assert verify_chain(tx).intact
    assert told[-2:] == [("model.deleted", "ann"), ("model.undeleted", "bo")]
    version = get_model(any_bikes, "bikes:1")
    assert version.facets == {}
    load_bundle(any_bikes, version.bundle_digest).verify()


def test_rollback_passes_over_what_was_deleted(any_bikes: Store) -> None:
    for seq in (1, 2, 3):
        promote(any_bikes, "bikes", seq, by="ann", reason=f"to {seq}")
        _days(any_bikes, 1)
    _delete(any_bikes, 2)
    assert roll_back(any_bikes, "bikes", by="ann", reason="complaints").champion == 1
    assert current_aliases(any_bikes, "bikes") == {"champion": 1}


def test_alias_goes_back_past_a_deleted_version(bikes: Store) -> None:
    for seq in (1, 2, 3):
        set_alias(bikes, "bikes", "prod", seq, by="ann", reason=f"to {seq}")
        _days(bikes, 1)
    _delete(bikes, 2)
    assert rollback(bikes, "bikes", alias="prod", by="ann", reason="complaints").seq == 1


def test_collector_takes_the_payload_when_the_time_is_over(any_bikes: Store) -> None:
    version = get_model(any_bikes, "bikes:2")
    form = load_bundle(any_bikes, version.bundle_digest).manifest.formats[0].digest
    _delete(any_bikes, 2)
    _days(any_bikes, 9)
    _collect(any_bikes)
    assert any_bikes.blobs.exists(form)
    _days(any_bikes, 2)
    _collect(any_bikes)
    assert not any_bikes.blobs.exists(form)
    assert not any_bikes.blobs.exists(version.bundle_digest)
    gone = get_model(any_bikes, "bikes:2", deleted=True).deleted
    assert gone is not None
    assert gone.collected
    with pytest.raises(Conflict, match="cannot be taken back"):
        undelete_version(any_bikes, "bikes", 2, by="ann")
    for seq in (1, 3):
        load_bundle(any_bikes, get_model(any_bikes, f"bikes:{seq}").bundle_digest).verify()


def test_collector_leaves_what_another_version_shares_and_what_was_taken_back(bikes: Store) -> None:
    shared = get_model(bikes, "bikes:3")
    bundle = load_bundle(bikes, shared.bundle_digest)
    register_model(bikes, "scooters", bundle)
    _delete(bikes, 3)
    _delete(bikes, 1)
    _days(bikes, 20)
    undelete_version(bikes, "bikes", 1, by="ann")
    _collect(bikes)
    bundle.verify()
    load_bundle(bikes, get_model(bikes, "bikes:1").bundle_digest).verify()
    gone = get_model(bikes, "bikes:3", deleted=True).deleted
    assert gone is not None
    assert not gone.collected
    assert undelete_version(bikes, "bikes", 3, by="ann").seq == 3
