"""Observing a real log: windows, cursors, decay, alerts; on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import orjson
import polars as pl
import pytest

from tidewheel.clock import ManualClock
from tidewheel.errors import NotFound
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import Bundle
from tidewheel.monitoring.alerts import list_alerts, open_alerts
from tidewheel.monitoring.observe import observe
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.monitoring.state import load_state
from tidewheel.monitoring.windows import list_windows
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.segments import log_folder

MODEL = "apples"
POLICY = MonitorPolicy(window_rows=200, label_rows=100)


def kinds(store: Store) -> list[str]:
    return [alert.kind for alert in open_alerts(store, MODEL)]


def rounded(figures: Iterable[object]) -> list[Any]:
    """Leave out the last digits: a sum depends on where it was cut."""
    text = orjson.dumps([msgspec.to_builtins(each) for each in figures])
    return list(json.loads(text, parse_float=lambda number: f"{float(number):.12g}"))


def event_types(store: Store) -> list[str]:
    with store.database.reading() as tx:
        return [event.type for event in list_events(tx, type_prefix="alert.", limit=1_000)]


def test_windows_close_by_rows_and_hold_what_was_seen(any_live: Any) -> None:
    store = any_live.store
    any_live.live(450, 1)
    windows = observe(store, MODEL, policy=POLICY)
    traffic = [window for window in windows if window.kind == "traffic"]
    labels = [window for window in windows if window.kind == "labels"]
    assert [window.number for window in traffic] == [1, 2]
    assert [window.rows for window in traffic] == [200, 200]
    assert [window.rows for window in labels] == [100] * 4
    assert traffic[0].start < traffic[0].end < traffic[1].start
    body = traffic[0].traffic
    assert body is not None
    assert {column.name for column in body.columns} == {"weight", "size", "soft", "prediction", "probability"}
    assert body.arms["champion"].requests == 200
    assert body.arms["champion"].p99_ms == pytest.approx(0.9, rel=0.05)
    assert body.per_second == pytest.approx(1_000, rel=0.01)
    performance = labels[0].performance
    assert performance is not None
    assert performance.metric == "accuracy"
    assert performance.reference == pytest.approx(0.9)
    assert 0.8 <= performance.value <= 1.0
    assert set(performance.metrics) == {"accuracy", "log_loss", "brier"}
    stored = list_windows(store, MODEL, 10)
    assert {window.id for window in stored} == {window.id for window in windows}
    assert next(window for window in stored if window.id == traffic[0].id) == traffic[0]
    assert list_windows(store, MODEL, 1, kind="traffic") == [traffic[1]]


def test_looking_in_small_steps_gives_the_windows_of_one_look(live: Any, tmp_path: Any) -> None:
    live.live(437, 1)
    at_once = observe(live.store, MODEL, policy=POLICY)
    figures = [window.traffic or window.performance for window in at_once]
    with live.store.database.transaction() as tx:
        tx.run("DELETE FROM monitor_cursor")
        tx.run("DELETE FROM monitor_window")
    folder = log_folder(live.store.home, MODEL)
    whole = next(folder.glob("predictions-*"))
    data = whole.read_bytes()
    stepwise = []
    for end in range(0, len(data) + 9_001, 9_001):
        whole.write_bytes(data[:end])
        stepwise += observe(live.store, MODEL, policy=POLICY, joiner=Joiner(folder))
    by_kind = sorted(stepwise, key=lambda window: (window.kind != "traffic", window.number))
    assert rounded(window.traffic or window.performance for window in by_kind) == rounded(figures)


def test_nothing_new_is_nothing_stored(live: Any) -> None:
    live.live(50, 1)
    assert observe(live.store, MODEL, policy=POLICY) == []
    with live.store.database.reading() as tx:
        before = tx.rows("SELECT revision FROM monitor_cursor")[0]["revision"]
    assert observe(live.store, MODEL, policy=POLICY) == []
    with live.store.database.reading() as tx:
        assert tx.rows("SELECT revision FROM monitor_cursor")[0]["revision"] == before


def test_two_observers_at_once_double_and_lose_no_window(any_live: Any) -> None:
    store = any_live.store
    found: list[Any] = []
    with ThreadPoolExecutor(3) as pool:
        for _ in range(4):
            any_live.live(260, 1)
            for windows in pool.map(lambda _: observe(store, MODEL, policy=POLICY), range(3)):
                found.extend(windows)
    found.extend(observe(store, MODEL, policy=POLICY))
    stored = list_windows(store, MODEL, 100)
    assert sorted(window.number for window in stored if window.kind == "traffic") == [1, 2, 3, 4, 5]
    assert sorted(window.number for window in stored if window.kind == "labels") == list(range(1, 11))
    assert sorted(window.id for window in found) == sorted(window.id for window in stored)


def test_an_observer_that_was_overtaken_stores_nothing(any_live: Any) -> None:
    """Another process observes between this one's reading and its writing, and brings a newer prediction, too."""
    store = any_live.store

    class Overtaken(Joiner):
        def labelled(self, cursor: Any = None, *, limit: int | None = None) -> Any:
            any_live.live(30, 1)
            overtaking.extend(observe(store, MODEL, policy=POLICY))
            return super().labelled(cursor, limit=limit)

    for start in (260, 250):
        any_live.live(start, 1)
        overtaking: list[Any] = []
        assert observe(store, MODEL, policy=POLICY, joiner=Overtaken(log_folder(store.home, MODEL))) == []
        assert overtaking
    observe(store, MODEL, policy=POLICY)
    stored = list_windows(store, MODEL, 100)
    assert sorted(window.number for window in stored if window.kind == "traffic") == [1, 2]
    assert sum(window.rows for window in stored if window.kind == "labels") == 500
    with store.database.reading() as tx:
        state = load_state(tx, MODEL).state
    assert state is not None
    assert state.traffic.rows == 260 + 30 + 250 + 30 - 400


@dataclass
class Drifting:
    shift: float  # deviations by which weight moves
    opens: bool  # whether that is a drift


@pytest.mark.parametrize("case", [Drifting(shift=0.0, opens=False), Drifting(shift=1.5, opens=True)])
def test_a_drift_alert_opens_after_two_windows_stays_and_closes(live: Any, case: Drifting) -> None:
    live.live(400, 1)
    observe(live.store, MODEL, policy=POLICY)
    assert kinds(live.store) == []
    live.live(200, 1, shift=case.shift)
    observe(live.store, MODEL, policy=POLICY)
    assert kinds(live.store) == []  # one window is not enough
    live.live(200, 1, shift=case.shift)
    observe(live.store, MODEL, policy=POLICY)
    assert ("drift" in kinds(live.store)) is case.opens
    if not case.opens:
        return
    (alert,) = [alert for alert in open_alerts(live.store, MODEL) if alert.kind == "drift"]
    assert "weight" in {column["name"] for column in alert.evidence["columns"]}
    assert alert.evidence["windows"] == 2
    assert "has moved: PSI" in alert.reason
    live.live(200, 1, shift=case.shift)
    live.live(200, 1)
    observe(live.store, MODEL, policy=POLICY)
    assert [one.id for one in open_alerts(live.store, MODEL) if one.kind == "drift"] == [alert.id]
    live.store.clock.advance(timedelta(hours=1))
    live.live(200, 1)
    observe(live.store, MODEL, policy=POLICY)
    assert "drift" not in kinds(live.store)
    (closed,) = [one for one in list_alerts(live.store, MODEL) if one.kind == "drift"]
    assert closed.state == "closed"
    assert closed.closed is not None
    assert closed.closed - closed.opened == timedelta(hours=1)
    assert closed.ending is not None
    assert closed.ending["reason"] == "calm"
    assert event_types(live.store).count("alert.opened") >= 1
    assert event_types(live.store).count("alert.closed") >= 1


def test_decay_is_judged_before_the_window_is_full(live: Any) -> None:
    policy = MonitorPolicy(window_rows=5_000, label_rows=5_000, worse_by=0.05, run_length=1_000)
    live.live(300, 1)
    observe(live.store, MODEL, policy=policy)
    assert kinds(live.store) == []
    for _ in range(15):
        live.live(20, 1, noise=0.45)
        observe(live.store, MODEL, policy=policy)
        if "decay" in kinds(live.store):
            break
    (alert,) = open_alerts(live.store, MODEL)
    assert alert.kind == "decay"
    assert alert.evidence["reference"] == pytest.approx(0.9)
    assert alert.evidence["tolerated"] == pytest.approx(0.85)
    assert 300 < alert.evidence["alarm_at_row"] <= 400
    assert alert.evidence["rise_began_at_row"] == pytest.approx(300, abs=40)
    assert alert.evidence["recent"] < 0.9
    assert alert.reason.startswith("accuracy is 0.")
    assert alert.reason.endswith("0.9 was shown and 0.85 is tolerated")
    assert list_windows(live.store, MODEL) == []


def test_decay_closes_when_the_windows_are_calm_again_and_can_open_anew(live: Any) -> None:
    policy = MonitorPolicy(window_rows=5_000, label_rows=100, worse_by=0.05, run_length=1_000, clear_windows=2)
    live.live(200, 1, noise=0.45)
    observe(live.store, MODEL, policy=policy)
    assert kinds(live.store) == ["decay"]
    live.live(400, 1, noise=0.05)
    observe(live.store, MODEL, policy=policy)
    assert kinds(live.store) == []
    live.live(300, 1, noise=0.45)
    observe(live.store, MODEL, policy=policy)
    assert kinds(live.store) == ["decay"]
    assert len(list_alerts(live.store, MODEL)) == 2


def test_no_decay_alarm_at_the_accuracy_the_champion_was_registered_with(live: Any) -> None:
    policy = MonitorPolicy(window_rows=100_000, label_rows=100_000, worse_by=0.02)
    live.live(3_000, 1)
    observe(live.store, MODEL, policy=policy)
    assert kinds(live.store) == []


def test_a_champion_change_begins_a_new_baseline_and_closes_alerts(
    any_live: Any, make_bundle: Callable[..., Bundle]
) -> None:
    store = any_live.store
    any_live.live(250, 1, noise=0.5)
    observe(store, MODEL, policy=POLICY)
    assert "decay" in kinds(store)
    second = any_live.register(make_bundle(store, seed=5), {"accuracy": 0.9})
    any_live.live(90, 1, noise=0.5)  # answers of the old champion that came late
    observe(store, MODEL, policy=POLICY)
    assert kinds(store) == []
    (closed,) = [alert for alert in list_alerts(store, MODEL) if alert.kind == "decay"]
    assert closed.ending == {"reason": "champion changed", "from": 1, "to": 2}
    any_live.live(100, second)
    windows = observe(store, MODEL, policy=POLICY)
    assert [(window.kind, window.version, window.rows) for window in windows] == [("labels", 2, 100)]
    assert kinds(store) == []


def test_without_a_holdout_metric_the_first_labels_are_the_reference(
    store: Store, make_bundle: Callable[..., Bundle], live: Any
) -> None:
    live.register(make_bundle(store, seed=6), {"something": 1.0})
    live.live(100, 2)
    observe(store, MODEL, policy=POLICY)
    live.live(100, 2)
    (window,) = [window for window in observe(store, MODEL, policy=POLICY) if window.kind == "labels"]
    assert window.performance is not None
    assert window.performance.reference is not None
    assert 0.75 < window.performance.reference < 0.95
    live.live(200, 2, noise=0.6)
    observe(store, MODEL, policy=POLICY)
    (alert,) = [alert for alert in open_alerts(store, MODEL) if alert.kind == "decay"]
    assert alert.evidence["reference_from"] == "first labels"


def test_regression_is_watched_by_rmse(store: Store, make_regressor: Callable[..., Bundle], live: Any) -> None:
    seq = live.register(make_regressor(store), {"rmse": 1.0})
    frame = pl.DataFrame(
        {"weight": live.random.normal(size=400), "size": live.random.normal(size=400), "soft": live.random.random(400)}
    )
    ids = live.serve(frame, seq)
    clean = (frame["weight"] + frame["size"]).to_numpy()
    live.label(ids[:200], (clean[:200] + live.random.normal(0, 1.0, 200)).tolist())
    (first, second) = [window for window in observe(store, MODEL, policy=POLICY) if window.kind == "labels"]
    assert first.performance is not None
    assert second.performance is not None
    assert first.performance.metric == "rmse"
    assert first.performance.value == pytest.approx(1.0, abs=0.2)
    assert first.performance.tolerated == pytest.approx(1.1)
    assert set(first.performance.metrics) == {"rmse", "mae"}
    live.label(ids[200:], (clean[200:] + live.random.normal(0, 2.0, 200)).tolist())
    observe(store, MODEL, policy=POLICY)
    assert kinds(store) == ["decay"]


def test_errors_latency_and_refusals_open_their_alerts(live: Any, draw: Callable[..., pl.DataFrame]) -> None:
    policy = MonitorPolicy(window_rows=100, windows=1, error_rate=0.05, latency_ms=50, schema=0.05)
    live.serve(draw(live.random, 100), 1)
    observe(live.store, MODEL, policy=policy)
    assert kinds(live.store) == []
    live.serve(draw(live.random, 10), 1, status=500)
    live.serve(draw(live.random, 12), 1, status=422, route="refused")
    live.serve(draw(live.random, 10), 1, latency_us=80_000)
    live.serve(draw(live.random, 90), 1)
    (window,) = observe(live.store, MODEL, policy=policy)
    assert window.traffic is not None
    arm = window.traffic.arms["champion"]
    assert (arm.requests, arm.errors, arm.refused) == (110, 10, 12)
    assert arm.p50_ms == pytest.approx(0.9, rel=0.05)
    assert arm.p99_ms == pytest.approx(80, rel=0.05)
    assert sorted(kinds(live.store)) == ["errors", "latency", "schema"]


def test_both_arms_count_as_traffic_and_only_the_champion_as_its_answers(
    live: Any, make_bundle: Callable[..., Bundle], draw: Callable[..., pl.DataFrame]
) -> None:
    second = live.register(make_bundle(live.store, seed=7), champion=False)
    frame = draw(live.random, 200)
    champion = live.serve(frame.head(120), 1, other=second)
    challenger = live.serve(frame[120:180], second, arm="challenger", other=1)
    live.serve(frame[180:], second, arm="challenger")
    labels = (frame["weight"] + frame["size"] > 0).cast(pl.Int64).to_list()
    live.label(champion + challenger, labels[:180])
    traffic, performance = observe(live.store, MODEL, policy=POLICY)
    assert traffic.traffic is not None
    assert {name: arm.requests for name, arm in traffic.traffic.arms.items()} == {"champion": 120, "challenger": 80}
    by_name = {column.name: column.rows for column in traffic.traffic.columns}
    assert by_name["weight"] == 200
    assert by_name["prediction"] == 180
    assert performance.rows == 100  # 180 labelled rows hold the champion's answer; one window of 100 is full


def test_requests_of_many_rows_fill_windows_by_rows(live: Any, draw: Callable[..., pl.DataFrame]) -> None:
    live.serve(draw(live.random, 480), 1, rows_each=60)
    windows = observe(live.store, MODEL, policy=POLICY)
    assert [window.rows for window in windows] == [240, 240]


def test_labels_that_cannot_be_used_are_counted_and_left_out(
    live: Any, make_regressor: Callable[..., Bundle], draw: Callable[..., pl.DataFrame]
) -> None:
    seq = live.register(make_regressor(live.store), {"rmse": 1.0})
    ids = live.serve(draw(live.random, 110), seq)
    live.label(ids, ["oops"] * 10 + [0.0] * 100)
    (window,) = [window for window in observe(live.store, MODEL, policy=POLICY) if window.kind == "labels"]
    assert window.rows == 100
    assert window.performance is not None
    assert window.performance.unusable == 10


def test_a_model_without_champion_is_not_read_and_an_unknown_one_is_named(store: Store) -> None:
    with pytest.raises(NotFound, match="model"):
        observe(store, "pears")


def test_a_changed_tolerance_begins_the_evidence_anew(live: Any) -> None:
    live.live(60, 1, noise=0.5)
    observe(live.store, MODEL, policy=MonitorPolicy(worse_by=0.45))
    assert kinds(live.store) == []
    live.live(60, 1, noise=0.5)
    observe(live.store, MODEL, policy=MonitorPolicy(worse_by=0.02, run_length=1_000))
    (alert,) = open_alerts(live.store, MODEL)
    assert alert.evidence["labelled_rows"] == 60


def test_the_clock_of_the_store_dates_what_is_written(live: Any) -> None:
    assert isinstance(live.store.clock, ManualClock)
    live.live(200, 1)
    windows = observe(live.store, MODEL, policy=POLICY)
    assert {window.at for window in windows} == {live.store.clock.now()}
