"""Charts hold what the monitor found, in its units, and leave out what was not measured."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from tidewheel.monitoring.records import Alert, ArmTraffic, ColumnDrift, Performance, Traffic, Window
from tidewheel.web.windows import charts_of

START = datetime(2026, 1, 1, tzinfo=UTC)


def column(name: str, psi: float) -> ColumnDrift:
    return ColumnDrift(
        name=name, rows=100, psi=psi, psi_band=0.1, ks=None, ks_band=None, missing=0.0, unknown=0.0, drifted=psi > 0.2
    )


def arm(requests: int, errors: int, p99: float | None) -> ArmTraffic:
    return ArmTraffic(requests=requests, errors=errors, refused=0, p50_ms=p99, p95_ms=p99, p99_ms=p99)


def traffic(number: int, *columns: ColumnDrift, **arms: ArmTraffic) -> Window:
    return Window(
        id=f"t{number}",
        model="m",
        kind="traffic",
        number=number,
        version=1,
        rows=100,
        start=START + timedelta(minutes=number - 1),
        end=START + timedelta(minutes=number),
        at=START + timedelta(minutes=number),
        traffic=Traffic(columns=list(columns), arms=arms, per_second=1.5),
    )


def labels(number: int, value: float, *, metric: str = "accuracy", tolerated: float | None = None) -> Window:
    return Window(
        id=f"l{number}",
        model="m",
        kind="labels",
        number=number,
        version=2,
        rows=50,
        start=START,
        end=START + timedelta(minutes=number),
        at=START + timedelta(minutes=number),
        performance=Performance(
            metric=metric, value=value, reference=0.9, tolerated=tolerated, metrics={metric: value}, unusable=0
        ),
    )


def test_each_chart_takes_its_numbers_from_its_windows() -> None:
    windows = [
        traffic(1, column("hour", 0.05), column("season", 0.31), champion=arm(90, 1, 4.5), challenger=arm(10, 4, 9.0)),
        labels(1, 0.875, tolerated=0.8),
        traffic(2, column("hour", 0.02), champion=arm(100, 0, 3.5)),
    ]
    found = {chart.id: chart for chart in charts_of(windows, ())}
    assert list(found) == ["performance", "psi", "errors", "latency"]
    assert [point.value for point in found["psi"].points] == [0.31, 0.02]
    assert found["psi"].points[0].note == "00:01:00  0.31 in season, 100 rows, v1"
    assert [point.value for point in found["errors"].points] == [0.05, 0.0]
    assert found["errors"].points[0].note == "00:01:00  5.0 % (5 of 100), 100 rows, v1"
    assert [point.value for point in found["latency"].points] == [9.0, 3.5]
    assert (found["performance"].title, found["performance"].unit, found["performance"].limit) == (
        "Accuracy",
        "percent",
        0.8,
    )
    assert found["performance"].points[0].note == "00:01:00  87.5 %, 50 rows, v2"


def test_only_the_metric_that_is_watched_now_is_charted() -> None:
    (chart,) = charts_of([labels(1, 0.9), labels(2, 41.5, metric="rmse"), labels(3, 40.0, metric="rmse")], ())
    assert (chart.title, chart.unit) == ("RMSE", "number")
    assert [point.value for point in chart.points] == [41.5, 40.0]


def test_what_was_not_measured_is_left_out() -> None:
    assert charts_of([], ()) == ()
    (errors,) = charts_of([traffic(1, champion=arm(10, 0, None))], ())
    assert errors.id == "errors"
    assert charts_of([traffic(1, champion=arm(0, 0, None))], ()) == ()
    assert charts_of([labels(1, math.nan)], ()) == ()


def test_the_limit_of_drift_is_that_of_the_newest_alert_unless_it_is_known() -> None:
    alert = Alert(
        id="a", model="m", kind="drift", state="closed", version=1, opened=START, closed=START, reason="drift",
        evidence={"threshold": {"psi": 0.25, "ks": None}}, ending=None,
    )  # fmt: skip
    windows = [traffic(1, column("hour", 0.05), champion=arm(0, 0, None))]
    assert [chart.limit for chart in charts_of(windows, [alert])] == [0.25]
    assert [chart.limit for chart in charts_of(windows, [alert], psi_limit=0.1)] == [0.1]
    assert [chart.limit for chart in charts_of(windows, ())] == [None]
