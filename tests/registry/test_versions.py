"""Versions are registered once, in order, with what stands behind them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.graph import graph
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import add_version, ensure_entity, start_execution
from tidewheel.models.bundle import load_bundle
from tidewheel.registry.versions import get_model, list_models, list_versions, register_model

if TYPE_CHECKING:
    from tests.registry.conftest import BundleOf


def test_versions_are_numbered_and_found(bikes: Store) -> None:
    assert list_models(bikes) == ["bikes"]
    assert [item.seq for item in list_versions(bikes, "bikes")] == [3, 2, 1]
    assert [item.seq for item in list_versions(bikes, "bikes", limit=1)] == [3]
    newest, second = get_model(bikes, "bikes"), get_model(bikes, "bikes:2")
    assert (newest.seq, second.seq, second.reference) == (3, 2, "bikes:2")
    assert second.metrics == {"rmse": 0.5}
    assert (second.format, second.task) == ("onnx", "regression")
    assert "LinearRegression" in second.estimator
    assert load_bundle(bikes, second.bundle_digest).scorer().score_rows([[0.5, 0.25]]).prediction[0] == pytest.approx(1)


def test_run_and_data_stand_behind_a_version(any_store: Store, bundle_of: BundleOf) -> None:
    now = any_store.clock.now()
    with any_store.database.transaction() as tx:
        run = start_execution(tx, kind="run", job="bikes", at=now)
        rows = ensure_entity(tx, "dataset", "rentals", at=now)
        data = add_version(tx, rows.id, at=now, digest="sha256:" + "1" * 64)
    version = register_model(
        any_store,
        "bikes",
        bundle_of(any_store),
        run_id=run.id,
        dataset_version_id=data.id,
        by="loop",
        facets={"cause": "drift:7"},
    )
    assert (version.run_id, version.dataset_version_id, version.by) == (run.id, data.id, "loop")
    assert version.facets == {"cause": "drift:7"}
    assert get_model(any_store, "bikes:1") == version
    with any_store.database.reading() as tx:
        edges = {(edge.relation, edge.dst) for edge in graph(tx, version.version_id, down=False).edges}
        (event,) = list_events(tx, type_prefix="model.registered")
        assert verify_chain(tx).intact
    assert edges == {("generated", run.id), ("derived", data.id)}
    assert (event.governs, event.by, event.execution_id) == (True, "loop", run.id)
    assert event.body["version"] == 1


def test_resumed_run_registers_once(any_store: Store, bundle_of: BundleOf) -> None:
    with any_store.database.transaction() as tx:
        run = start_execution(tx, kind="run", job="bikes", at=any_store.clock.now())
    bundle = bundle_of(any_store)
    first, again = (register_model(any_store, "bikes", bundle, run_id=run.id) for _ in range(2))
    assert again == first
    assert register_model(any_store, "bikes", bundle).seq == 2


def test_registering_joins_the_callers_transaction(any_store: Store, bundle_of: BundleOf) -> None:
    bundle = bundle_of(any_store)
    with pytest.raises(ZeroDivisionError), any_store.database.transaction() as tx:
        1 / (register_model(tx, "bikes", bundle, at=any_store.clock.now()).seq - 1)
    assert list_models(any_store) == []
    with any_store.database.transaction() as tx, pytest.raises(InvalidInput, match=r"at=store\.clock\.now"):
        register_model(tx, "bikes", bundle)


def test_unknown_names_are_answered_with_near_ones(bikes: Store) -> None:
    with pytest.raises(NotFound, match="Did you mean 'bikes'"):
        get_model(bikes, "bike")
    with pytest.raises(NotFound, match="version of model 'bikes' named '9'"):
        get_model(bikes, "bikes:9")
    with pytest.raises(NotFound, match="champion"):
        get_model(bikes, "bikes@champion")
    with pytest.raises(NotFound, match="Did you mean 'bikes'"):
        list_versions(bikes, "bikess")


def test_what_cannot_be_kept_is_refused(any_store: Store, bundle_of: BundleOf) -> None:
    bundle = bundle_of(any_store)
    with pytest.raises(InvalidInput, match="cannot be the name of a model"):
        register_model(any_store, "my bikes", bundle)
    with pytest.raises(InvalidInput, match="may not be called metrics"):
        register_model(any_store, "bikes", bundle, facets={"metrics": {}})
    with pytest.raises(NotFound, match="run or step"):
        register_model(any_store, "bikes", bundle, run_id="nowhere")
    with pytest.raises(NotFound, match="version"):
        register_model(any_store, "bikes", bundle, dataset_version_id="nowhere")
    assert list_models(any_store) == []


def test_writers_at_once_get_numbers_of_their_own(any_store: Store, bundle_of: BundleOf) -> None:
    bundles = [bundle_of(any_store, slope) for slope in range(6)]
    with ThreadPoolExecutor(6) as pool:
        seqs = list(pool.map(lambda bundle: register_model(any_store, "bikes", bundle).seq, bundles))
    assert sorted(seqs) == [1, 2, 3, 4, 5, 6]
