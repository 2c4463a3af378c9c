"""Charts from what the monitor found: performance, drift, errors and latency, window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC
from typing import Literal

from tidewheel.monitoring.records import Alert, Traffic, Window
from tidewheel.web.records import Chart, Point
from tidewheel.web.wording import count, metric_title, metric_unit, number

Unit = Literal["number", "percent", "ms"]
Measure = Callable[[Traffic], float | None]


def charts_of(
    windows: Sequence[Window], alerts: Sequence[Alert], *, psi_limit: float | None = None
) -> tuple[Chart, ...]:
    """Return the charts that windows (in order of time) have numbers for; those without are left out."""
    traffic = [window for window in windows if window.traffic is not None]
    labels = [window for window in windows if window.performance is not None]
    limit = psi_limit if psi_limit is not None else _psi_limit(alerts)
    charts = (
        _performance(labels),
        _chart("psi", "Strongest drift (PSI)", _points(traffic, _strongest, "number"), limit=limit),
        _chart("errors", "Failed requests", _points(traffic, _failed, "percent"), unit="percent"),
        _chart("latency", "Latency (p99)", _points(traffic, _latency, "ms"), unit="ms"),
    )
    return tuple(chart for chart in charts if any(point.value is not None for point in chart.points))


def _performance(windows: Sequence[Window]) -> Chart:
    """Chart the metric that is watched now; windows that watched another one are left out."""
    found = [(window, window.performance) for window in windows if window.performance is not None]
    metric = found[-1][1].metric if found else ""
    unit: Unit = "percent" if metric_unit(metric) == "percent" else "number"
    points = tuple(
        _point(window, performance.value, number(performance.value, unit))
        for window, performance in found
        if performance.metric == metric
    )
    tolerated = found[-1][1].tolerated if found else None
    return Chart(
        id="performance",
        title=metric_title(metric),
        unit=unit,
        points=points,
        limit=_finite(tolerated),
        limit_name="tolerated",
        zero=False,
    )


def _chart(
    name: str, title: str, points: Iterable[Point], *, unit: Unit = "number", limit: float | None = None
) -> Chart:
    return Chart(id=name, title=title, unit=unit, points=tuple(points), limit=limit, limit_name="limit", zero=True)


def _points(
    windows: Sequence[Window], measure: Callable[[Traffic], tuple[float | None, str]], unit: Unit
) -> Iterable[Point]:
    for window in windows:
        if window.traffic is not None:
            value, of = measure(window.traffic)
            yield _point(window, value, f"{number(value, unit)}{of}")


def _point(window: Window, value: float | None, words: str) -> Point:
    note = f"{window.end.astimezone(UTC):%H:%M:%S}  {words}, {count(window.rows, 'row')}, v{window.version}"
    return Point(at=window.end, value=_finite(value), note=note)


def _strongest(traffic: Traffic) -> tuple[float | None, str]:
    if not traffic.columns:
        return None, ""
    column = max(traffic.columns, key=lambda each: each.psi)
    return column.psi, f" in {column.name}"


def _failed(traffic: Traffic) -> tuple[float | None, str]:
    requests = sum(arm.requests for arm in traffic.arms.values())
    errors = sum(arm.errors for arm in traffic.arms.values())
    return (errors / requests if requests else None), f" ({errors:,} of {requests:,})"


def _latency(traffic: Traffic) -> tuple[float | None, str]:
    slowest = max((arm.p99_ms for arm in traffic.arms.values() if arm.p99_ms is not None), default=None)
    return slowest, ""


def _psi_limit(alerts: Sequence[Alert]) -> float | None:
    """Return the limit that the newest alert of drift was opened with."""
    for alert in alerts:
        limit = alert.evidence.get("threshold", {}).get("psi") if alert.kind == "drift" else None
        if limit is not None:
            return float(limit)
    return None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
