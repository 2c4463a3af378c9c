"""Triggers on the monitor's windows and alerts, and on aliases, as a schedule asks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from types import ModuleType
from typing import Any

import msgspec
import pytest

from tidewheel.clock import ManualClock, new_id
from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import add_version, ensure_entity, move_alias
from tidewheel.monitoring import tables
from tidewheel.monitoring.records import ColumnDrift, Performance, Traffic
from tidewheel.triggers import Schedule, alias, decay, drift, every, metric
from tidewheel.triggers.records import Rule
from tidewheel.triggers.tick import tick

Book = Callable[[], list[str]]


def labels(value: float) -> Performance:
    return Performance(
        metric="accuracy", value=value, reference=0.9, tolerated=0.8, metrics={"accuracy": value}, unusable=0
    )


def traffic(psi: float, band: float = 0.05) -> Traffic:
    column = ColumnDrift(
        name="hires", rows=500, psi=psi, psi_band=band, ks=None, ks_band=None, missing=0.0, unknown=0.0, drifted=True
    )
    return Traffic(columns=[column], arms={}, per_second=None)


def close_window(store: Store, number: int, body: Performance | Traffic, version: int = 1) -> None:
    now = store.clock.now()
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(minutes=1))
    with store.database.transaction() as tx:
        tx.execute(
            tables.window.insert().values(
                id=new_id(),
                model="churn",
                kind="labels" if isinstance(body, Performance) else "traffic",
                number=number,
                version=version,
                rows=500,
                start=now,
                end=now,
                at=now,
                body=msgspec.to_builtins(body),
            )
        )


def fired(store: Store, project: ModuleType, rule: Rule, bodies: Sequence[Any]) -> list[int]:
    """Return after which windows a schedule fired; a pair is a window of another champion."""
    schedule = Schedule(project.keep_books, on=[rule], name="watch")
    found = [0] if tick(store, [schedule])[0].verdict == "fired" else []
    for number, body in enumerate(bodies, start=1):
        given, version = body if isinstance(body, tuple) else (body, 1)
        close_window(store, number, given, version)
        found += [number for report in tick(store, [schedule]) if report.verdict == "fired"]
    return found


@pytest.mark.usefixtures("book")
@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (metric("churn", "accuracy", below=0.8), [0.9, 0.7, 0.6, 0.9, 0.7], [2, 5]),
        (metric("churn", "accuracy", below=0.8, windows=2), [0.7, 0.9, 0.7, 0.6, 0.5, 0.9, 0.7, 0.7], [4, 8]),
        (metric("churn", "accuracy", below=0.8).for_("3 windows"), [0.7, 0.7, 0.9, 0.7, 0.7, 0.7], [6]),
        (metric("churn", "accuracy", above=0.8), [0.8, 0.81, 0.9], [2]),
        (metric("churn", "auc", below=0.8), [0.7, 0.7], []),
    ],
)
def test_a_metric_fires_once_for_each_stretch_beyond_its_limit(
    store: Store, project: ModuleType, rule: Rule, values: list[float], expected: list[int]
) -> None:
    assert fired(store, project, rule, [labels(value) for value in values]) == expected


def test_a_new_champion_begins_a_new_stretch(store: Store, project: ModuleType, book: Book) -> None:
    windows = [(labels(0.7), 1), (labels(0.7), 1), (labels(0.7), 2), (labels(0.7), 2)]
    assert fired(store, project, metric("churn", "accuracy", below=0.8), windows) == [1, 3]


def test_drift_asks_for_more_than_chance_gives(store: Store, project: ModuleType, book: Book) -> None:
    windows = [traffic(0.3), traffic(0.3, band=0.4), traffic(0.3), traffic(0.25), traffic(0.1)]
    assert fired(store, project, drift(0.2, windows=2, model="churn"), windows) == [4]


def test_decay_of_a_loop_fires_once_for_each_alert(any_store: Store, project: ModuleType, book: Book) -> None:
    schedule = Schedule(project.keep_books, on=[decay(model="churn")], name="watch")
    now, found = any_store.clock.now(), []
    for number in range(4):
        if number in (1, 3):
            with any_store.database.transaction() as tx:
                tx.execute(tables.alert.update().values(state="closed", closed=now))
                tx.execute(
                    tables.alert.insert().values(
                        id=new_id(),
                        model="churn",
                        kind="decay",
                        state="open",
                        version=1,
                        opened=now,
                        reason="accuracy fell",
                        evidence={"accuracy": 0.7},
                    )
                )
        found += [number for report in tick(any_store, [schedule]) if report.verdict == "fired"]
    assert found == [1, 3]


def test_an_alias_fires_when_it_points_elsewhere(any_store: Store, project: ModuleType, book: Book) -> None:
    schedule = Schedule(project.keep_books, on=[alias("embedder", "champion")], name="embed")
    reasons = [tick(any_store, [schedule])[0].reason]
    clock = any_store.clock
    assert isinstance(clock, ManualClock)
    with any_store.database.transaction() as tx:
        model = ensure_entity(tx, "model", "embedder", at=clock.now())
        versions = [add_version(tx, model.id, at=clock.now(), digest=f"sha256:{place}").id for place in range(2)]
    found = []
    for moment, version in enumerate([versions[0], versions[0], versions[1], None, versions[1], versions[0]]):
        clock.advance(timedelta(hours=1))
        with any_store.database.transaction() as tx:
            move_alias(tx, model.id, "champion", version, at=clock.now(), by="ann", reason="test")
        found += [moment for report in tick(any_store, [schedule]) if report.verdict == "fired"]
    assert found == [0, 2, 5]
    assert reasons == ["counts from now on; embedder@champion points to nothing"]


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: metric("churn", "auc"), "not one limit"),
        (lambda: metric("churn", "auc", below=0.1, above=0.9), "not one limit"),
        (lambda: metric("churn", "auc", below=0.1, windows=0), "always due"),
        (decay, "names no metric"),
        (lambda: decay("rmse").for_("2 windows"), "not judged by windows"),
        (lambda: drift(model="churn", windows=0), "always due"),
        (lambda: alias("two words"), "no space"),
        (lambda: every("1h").for_("2 windows"), "not judged by windows"),
    ],
)
def test_what_cannot_be_watched_is_refused(make: Callable[[], object], hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        make()
