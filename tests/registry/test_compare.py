"""What changed between two versions is said, and only that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from tidewheel.database.values import to_json
from tidewheel.errors import NotFound
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import add_version, ensure_entity, start_execution
from tidewheel.models.bundle import save_bundle
from tidewheel.models.model import Model
from tidewheel.models.signature import Field, Signature
from tidewheel.registry.compare import Change, column_shifts, compare_versions, signature_changes
from tidewheel.registry.versions import register_model
from tidewheel.stats.profile import profile_frame

if TYPE_CHECKING:
    from tests.registry.conftest import BundleOf


def test_equal_versions_have_no_differences(store: Store, bundle_of: BundleOf) -> None:
    bundle = bundle_of(store)
    for _ in range(2):
        register_model(store, "bikes", bundle, metrics={"rmse": 1.0})
    found = compare_versions(store, "bikes:1", "bikes:2")
    assert found.metrics == (Change(name="rmse", before=1.0, after=1.0),)
    assert (found.signature, found.environment, found.datasets, found.estimator) == ((), (), None, None)
    assert not found.code_changed
    assert {shift.shift for shift in found.columns} == {0.0}


def test_everything_that_differs_is_named(store: Store) -> None:
    now = store.clock.now()
    with store.database.transaction() as tx:
        rows = ensure_entity(tx, "dataset", "rentals", at=now)
        data = [add_version(tx, rows.id, at=now, digest="sha256:" + digit * 64).id for digit in "12"]
    x = pl.DataFrame({"a": np.linspace(0, 1, 40), "c": [None, *range(39)]})
    first = x.select("a").with_columns(b=pl.col("a") * 2)
    old = Model(LinearRegression().fit(first, first["a"]), example=first, target="cnt")
    new = Model(RandomForestRegressor(3).fit(x, x["a"]), example=x, target="cnt")
    for model, frame, version, environment in (
        (old, first, data[0], {"python": "3.11.9", "packages": {"polars": "2.0.0", "gone": "1"}}),
        (new, x.with_columns(pl.col("a") + 1), data[1], {"python": "3.12.1", "packages": {"polars": "2.1.0"}}),
    ):
        bundle = save_bundle(store, model, rows=frame, environment=environment, code_digest=version)
        register_model(store, "bikes", bundle, dataset_version_id=version, metrics={version: 1.0})
    found = compare_versions(store, "bikes:1", "bikes")
    assert [(change.before, change.after) for change in found.metrics] == [(1.0, None), (None, 1.0)]
    assert {(change.name, change.before, change.after, change.breaking) for change in found.signature} == {
        ("b", "float", None, True),
        ("c", None, "int or null", True),
    }
    assert found.breaking
    assert {change.name: (change.before, change.after) for change in found.environment} == {
        "python": ("3.11.9", "3.12.1"),
        "polars": ("2.0.0", "2.1.0"),
        "gone": ("1", None),
    }
    assert found.datasets == Change(name="dataset", before="sha256:" + "1" * 64, after="sha256:" + "2" * 64)
    assert found.code_changed
    assert found.estimator is not None
    assert "RandomForestRegressor" in found.estimator.after
    shifts = {shift.name: shift for shift in found.columns}
    assert shifts["a"].shift == pytest.approx(1 / np.std(x["a"].to_numpy(), ddof=1), rel=1e-6)


def test_shifts_are_in_deviations_moved_shares_and_missing_shares() -> None:
    before = pl.DataFrame(
        {"n": [0.0, 2.0, 0.0, 2.0], "s": ["a", "a", "b", "b"], "g": [1.0, 2.0, 3.0, 4.0], "k": [1.0] * 4}
    )
    after = pl.DataFrame(
        {"n": [2.0, 4.0, 2.0, 4.0], "s": ["a", "c", "c", "c"], "g": [None, None, 3.0, 2.0], "k": ["x", "y", "x", "y"]}
    )
    found = {shift.name: shift for shift in column_shifts(profile_frame(before), profile_frame(after))}
    assert found["n"].shift == pytest.approx(2 / np.std([0, 2, 0, 2], ddof=1))
    assert found["s"].shift == pytest.approx(0.75)
    assert found["g"].missing == pytest.approx(0.5)
    assert found["k"].shift is None


def test_unknown_version_is_refused(bikes: Store) -> None:
    with pytest.raises(NotFound, match="'9'"):
        compare_versions(bikes, "bikes:1", "bikes:9")


def _signature(**kinds: str) -> Signature:
    fields = [
        Field(name=name, kind=kind.rstrip("?"), nullable=kind.endswith("?"))  # type: ignore[arg-type]
        for name, kind in kinds.items()
    ]
    return Signature(task="regression", fields=fields)


@pytest.mark.parametrize(
    ("before", "after", "breaks"),
    [
        ({"a": "int"}, {"a": "float"}, False),
        ({"a": "float"}, {"a": "int"}, True),
        ({"a": "int"}, {"a": "int?"}, False),
        ({"a": "int?"}, {"a": "int"}, True),
        ({"a": "int"}, {"a": "int", "b": "int"}, True),
        ({"a": "int", "b": "int"}, {"a": "int"}, True),
        ({"a": "int"}, {"a": "string"}, True),
    ],
)
def test_change_of_a_signature_breaks_what_callers_send(
    before: dict[str, str], after: dict[str, str], breaks: bool
) -> None:
    (change,) = signature_changes(_signature(**before), _signature(**after))
    assert change.breaking is breaks


def test_code_and_parameters_of_the_runs_are_compared(store: Store, bundle_of: BundleOf) -> None:
    now = store.clock.now()
    for depth, digest in ((4, "1" * 64), (8, "2" * 64)):
        with store.database.transaction() as tx:
            run = start_execution(tx, kind="run", job="bikes", at=now, parameters={"depth": depth, "seed": 1})
            start_execution(tx, kind="step", job="fit", at=now, parent_id=run.id, code_digest=digest)
            tx.run(
                "INSERT INTO step_code (digest, parts) VALUES (:digest, :parts)",
                digest=digest,
                parts=to_json({"train.fit": digest, "train.clean": "same"}),
            )
        register_model(store, "bikes", bundle_of(store, depth), run_id=run.id)
    found = compare_versions(store, "bikes:1", "bikes:2")
    assert found.parameters == (Change(name="depth", before=4, after=8),)
    assert [(change.name, change.before) for change in found.code] == [("train.fit", "1" * 64)]
