"""The loop end to end: real data, pipeline, bundles, registry, log, monitor and rollout."""

from __future__ import annotations

from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from tidewheel.clock import ManualClock
from tidewheel.data import datasets
from tidewheel.evaluation import gates
from tidewheel.lineage.read import find_entity, list_events
from tidewheel.lineage.store import Store
from tidewheel.loop import triggers
from tidewheel.loop.requests import request_run
from tidewheel.loop.status import LoopStatus, status
from tidewheel.loop.tick import Ticker, tick
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.pipelines.runs import list_runs
from tidewheel.registry.traffic import current_traffic
from tidewheel.registry.versions import list_versions


def state_of(store: Store) -> LoopStatus:
    """Return the status of the loop."""
    return status(store, "apples")[0]


def events(store: Store, kind: str) -> list[dict[str, Any]]:
    """Return the bodies of the model's events of a kind, oldest first."""
    with store.database.reading() as tx:
        subject = find_entity(tx, "model", "apples").id
        return [event.body for event in list_events(tx, subject_id=subject, type_prefix=kind, limit=1000)]


def pass_time(store: Store, by: timedelta) -> None:
    """Move the clock of the store."""
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(by)


def test_first_model_is_trained_judged_and_deployed(any_stand: Any, orchard: ModuleType) -> None:
    store = any_stand.store
    report = tick(store, orchard.make_loop(gates=[gates.beats_champion("accuracy")]))
    assert report.cause is not None
    assert report.trained is not None
    assert (report.cause.trigger, report.trained.ending, report.trained.version) == ("first", "deployed", 1)
    assert current_traffic(store, "apples").champion == 1
    version = list_versions(store, "apples")[0]
    assert version.metrics["accuracy"] > 0.85
    assert version.facets["trigger"] == "first"
    assert version.dataset_version_id == datasets.get(store, "orchard:1").version_id
    assert {run.cause["part"] for run in list_runs(store)} == {"candidate", "refit"}
    assert tick(store, orchard.make_loop()).cause is None
    found = state_of(store)
    assert (found.busy, found.champion, found.counters["triggers"], found.counters["runs"]) == (False, 1, 1, 2)


def test_labels_become_rows_exactly_once_and_new_data_fires(any_stand: Any, orchard: ModuleType) -> None:
    store = any_stand.store
    loop = orchard.make_loop(on=[triggers.new_data(rows=60)], collect_rows=25)
    ticker = Ticker(store, loop)
    ticker.tick()
    sold = []
    for _ in range(5):
        sold.append(any_stand.sell(10))
        assert ticker.tick().cause is None
    assert state_of(store).labelled == 50
    assert datasets.get(store, "orchard").rows == 230  # 30 kept as one part, 20 wait
    any_stand.sell(10)
    report = ticker.tick()
    assert report.cause is not None
    assert report.cause.reason == "60 new rows since the last retraining"
    assert report.trained is not None
    assert report.trained.ending == "deployed"
    assert datasets.get(store, "orchard").rows == 260
    kept = datasets.read(store, "orchard").slice(200, 50)
    assert kept["weight"].to_list() == [value for frame in sold for value in frame["weight"]]
    assert ticker.tick().cause is None


@pytest.mark.parametrize("kind", ["drift", "decay"])
def test_alert_retrains_once_and_again_on_the_ladder(stand: Any, orchard: ModuleType, kind: str) -> None:
    store = stand.store
    rule = triggers.drift(psi=0.3, windows=1) if kind == "drift" else triggers.decay("accuracy", worse_by=0.05)
    policy = MonitorPolicy(
        window_rows=50,
        label_rows=50,
        windows=1,
        psi=0.3 if kind == "drift" else None,
        decay="accuracy",
        worse_by=0.05,
        run_length=1_000.0,
    )
    loop = orchard.make_loop(
        on=[rule], monitor=policy, ladder=(40, 80), gates=[gates.threshold("accuracy", at_least=1)]
    )
    ticker = Ticker(store, loop)
    first = ticker.tick()
    assert first.trained is not None
    assert first.trained.ending == "refused"  # nothing is as good as that, so the champion stays, and so do its alerts
    passing = Ticker(store, orchard.make_loop(on=[rule], monitor=policy, ladder=(40, 80)))
    request_run(store, "apples", by="ann")
    assert passing.tick().trained.ending == "deployed"  # type: ignore[union-attr]
    causes = []
    for _ in range(30):
        stand.sell(20, shift=2.0 if kind == "drift" else 0.0, noise=0.05 if kind == "drift" else 0.9)
        report = ticker.tick()
        if report.cause is not None:
            causes.append(report.cause)
    alarms = [cause for cause in causes if cause.rule == kind]
    rungs = [cause.numbers["rung"] for cause in causes if cause.rule == "ladder"]
    assert len(alarms) == 1
    assert rungs == [1, 2]
    fired = events(store, "trigger.fired")
    assert len(fired) == len({body["key"] for body in fired})
