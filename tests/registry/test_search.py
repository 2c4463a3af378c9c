"""Owner, description and tags have a history, and versions are found by them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.errors import Conflict, InvalidInput, NotFound, TidewheelError
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.registry.aliases import set_alias
from tidewheel.registry.annotations import annotate, annotation_history, annotations_of
from tidewheel.registry.deletion import delete_version
from tidewheel.registry.filter import read_filter
from tidewheel.registry.versions import list_versions, register_model, search_versions

if TYPE_CHECKING:
    from tests.registry.conftest import BundleOf


def test_what_is_said_is_kept_with_who_and_when(any_bikes: Store) -> None:
    annotate(any_bikes, "bikes", {"owner": "anna", "tags.team": "risk"}, by="anna")
    held = annotate(any_bikes, "bikes", {"owner": "bo", "tags.team": None}, by="bo", reason="moved")
    assert [(item.name, item.value, item.by) for item in held.values()] == [("owner", "bo", "bo")]
    annotate(any_bikes, "bikes:2", {"description": "the good one"}, by="bo")
    assert annotate(any_bikes, "bikes:2", {"description": "the good one"}, by="eve")["description"].by == "bo"
    assert set(annotations_of(any_bikes, "bikes")) == {"owner"}
    assert set(annotations_of(any_bikes, "bikes:2")) == {"description"}
    history = [(one.name, one.version, one.before, one.after, one.by) for one in annotation_history(any_bikes, "bikes")]
    assert history[0] == ("description", 2, None, "the good one", "bo")
    assert sorted(history[1:3]) == [("owner", None, "anna", "bo", "bo"), ("tags.team", None, "risk", None, "bo")]
    assert len(history) == 5
    with any_bikes.database.reading() as tx:
        assert all(event.governs for event in list_events(tx, type_prefix="model.annotated"))


def test_what_cannot_be_said_is_refused(bikes: Store) -> None:
    with pytest.raises(NotFound, match="Did you mean 'owner'"):
        annotate(bikes, "bikes", {"ownr": "anna"}, by="anna")
    with pytest.raises(InvalidInput, match="name of a tag"):
        annotate(bikes, "bikes", {"tags.": "x"}, by="anna")
    with pytest.raises(InvalidInput, match="20,000 characters"):
        annotate(bikes, "bikes", {"owner": "x" * 20_000}, by="anna")
    with pytest.raises(NotFound, match="Did you mean 'bikes'"):
        annotate(bikes, "bike", {"owner": "anna"}, by="anna")
    delete_version(bikes, "bikes", 1, by="anna", reason="old", force=True)
    with pytest.raises(Conflict, match="was deleted"):
        annotate(bikes, "bikes:1", {"owner": "anna"}, by="anna")
    assert annotations_of(bikes, "bikes:1") == {}


@pytest.fixture
def fleet(bikes: Store, bundle_of: BundleOf) -> Store:
    register_model(bikes, "scooters", bundle_of(bikes, 9.0), metrics={"rmse": 70.0, "my metric": 1.0}, by="loop")
    annotate(bikes, "bikes", {"owner": "anna", "tags.team": "risk"}, by="anna")
    annotate(bikes, "bikes:3", {"owner": "bo", "tags.note": "it's 100% fine"}, by="anna")
    set_alias(bikes, "bikes", "champion", 2, by="anna", reason="best")
    return bikes


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("owner = anna and tags.team = 'risk' and metrics.rmse < 60", ["bikes:2", "bikes:1"]),
        ("owner != anna", ["bikes:3"]),
        ("not owner = anna", ["bikes:3", "scooters:1"]),
        ("owner is null", ["scooters:1"]),
        ("tags.team is not null and version >= 2", ["bikes:3", "bikes:2"]),
        ('metrics.rmse > 0.6 or owner = "bo"', ["bikes:3", "bikes:1", "scooters:1"]),
        ("(metrics.rmse > 0.6 or owner = bo) and name = bikes", ["bikes:3", "bikes:1"]),
        ("name in (scooters, cars)", ["scooters:1"]),
        ("name not in ('bikes')", ["scooters:1"]),
        ("tags.note like '%100\\% f%'", []),
        ("tags.note like 'it''s 100% f_ne'", ["bikes:3"]),
        ("name LIKE 'B%'", []),
        ("name ILIKE 'B%' AND alias = champion", ["bikes:2"]),
        ("metrics.`my metric` = 1", ["scooters:1"]),
        ("by = loop and task = regression and format = onnx", ["scooters:1"]),
        ("registered < '2000-01-01'", []),
        ("metrics.rmse = abc", []),
        ("metrics.nothing < 5 or metrics.nothing >= 5", []),
    ],
)
def test_filter_finds(fleet: Store, wanted: str, found: list[str]) -> None:
    assert [item.reference for item in search_versions(fleet, wanted)] == found
    own = [item.reference for item in list_versions(fleet, "bikes", filter=wanted)]
    assert own == [each for each in found if each.startswith("bikes")]


def test_deleted_versions_are_found_when_asked_for(fleet: Store) -> None:
    delete_version(fleet, "bikes", 1, by="anna", reason="old", force=True)
    assert [item.seq for item in search_versions(fleet, "name = bikes")] == [3, 2]
    assert [item.seq for item in search_versions(fleet, "state = DELETED", deleted=True)] == [1]
    assert [item.seq for item in search_versions(fleet, "name = bikes", limit=1)] == [3]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("", "a field at character 1, not the end"),
        ("owner", "an operator"),
        ("owner =", "a value at character 8, not the end"),
        ("owner = anna bo", "`and`, `or` or the end at character 14"),
        ("owner = 'anna", "cannot be read at character 9"),
        ("(owner = anna", r"`\)`"),
        ("owner in anna", r"`\(`"),
        ("owner is 5", "`null`"),
        ("and = 5", "a field"),
        ("owner = anna; drop table version", "wants|read"),
        ("(" * 60 + "owner = a" + ")" * 60, "nested too deeply"),
        ("owner = " + "x" * 5_000, "characters"),
    ],
)
def test_filter_that_cannot_be_read_is_refused_with_its_place(store: Store, wanted: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        search_versions(store, wanted)


def test_unknown_field_is_answered_with_near_ones(store: Store) -> None:
    with pytest.raises(NotFound, match="Did you mean 'owner'"):
        search_versions(store, "ownr = anna")


@given(st.text(max_size=80))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with suppress(TidewheelError):
        read_filter(text, ("owner",), ("tags",))({"owner": "anna", "tags.a": 5})
