"""Moments, spans, numbers and states in words, the same on the page and in the descriptions of charts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tidewheel.web.records import Chart, Evidence, LoopState, VersionLine

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
FRACTIONS = frozenset(
    {"accuracy", "balanced_accuracy", "precision", "recall", "f1", "macro_f1", "roc_auc", "mape", "error_rate"}
)
ABBREVIATIONS = {
    "roc_auc": "ROC AUC",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "mape": "MAPE",
    "f1": "F1",
    "macro_f1": "Macro F1",
}
NOT_MEASURED = "—"


def span(length: timedelta) -> str:
    """Return a length of time in its largest fitting unit.

    >>> span(timedelta(seconds=4.21)), span(timedelta(minutes=95)), span(timedelta(days=3))
    ('4.2 s', '1.6 h', '3 d')
    """
    seconds = max(length.total_seconds(), 0.0)
    size, unit = _unit(seconds)
    amount = seconds / size
    return f"{amount:.0f} {unit}" if amount >= 10 or amount == int(amount) else f"{amount:.1f} {unit}"


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago something was, in whole units, so that the text rests between changes.

    >>> ago(datetime(2026, 1, 1, 12, 0, tzinfo=UTC), datetime(2026, 1, 1, 12, 3, 20, tzinfo=UTC))
    '3 min ago'
    """
    seconds = (now - moment).total_seconds()
    if seconds < 10:
        return "just now"
    size, unit = _unit(seconds)
    return f"{int(seconds / size)} {unit} ago"


def _unit(seconds: float) -> tuple[float, str]:
    if seconds < MINUTE:
        return 1.0, "s"
    if seconds < HOUR:
        return MINUTE, "min"
    return (HOUR, "h") if seconds < DAY else (DAY, "d")


def seconds(length: float | None) -> str:
    """Return how many seconds something took, in its largest fitting unit; a dash while it goes on.

    >>> seconds(0.0042), seconds(75.0), seconds(None)
    ('4 ms', '1.2 min', '—')
    """
    if length is None:
        return NOT_MEASURED
    return f"{length * 1000:.0f} ms" if length < 1 else span(timedelta(seconds=length))


def exact(moment: datetime) -> str:
    """Return a moment to the second, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def axis(moment: datetime, length: timedelta) -> str:
    """Return a moment as it stands under a chart that covers a length of time, in UTC."""
    if length < timedelta(minutes=10):
        return f"{moment.astimezone(UTC):%H:%M:%S}"
    return f"{moment.astimezone(UTC):%H:%M}" if length < timedelta(days=1) else f"{moment.astimezone(UTC):%d %b %H:%M}"


def number(value: float | None, unit: str = "number") -> str:
    """Return a value as a reader wants it; a value that was not measured is a dash.

    >>> number(0.91234, "percent"), number(41.237), number(3.2, "ms"), number(None), number(0.0041, "percent")
    ('91.2 %', '41.24', '3.2 ms', '—', '0.41 %')
    """
    if value is None or value != value:  # noqa: PLR0124 - not a number is the one value unlike itself
        return NOT_MEASURED
    if unit == "percent":
        part = value * 100
        digits = 0 if part in (0, 100) else 2 if abs(part) < 1 else 1
        return f"{part:.{digits}f} %"
    if unit == "ms":
        return f"{value:.1f} ms" if abs(value) < 100 else f"{value:.0f} ms"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def metric_title(name: str) -> str:
    """Return the name of a metric as a heading.

    >>> metric_title("balanced_accuracy"), metric_title("rmse")
    ('Balanced accuracy', 'RMSE')
    """
    return ABBREVIATIONS.get(name) or name.replace("_", " ").capitalize()


def metric_unit(name: str) -> str:
    """Return how values of a metric are written: percent or number."""
    return "percent" if name in FRACTIONS else "number"


def count(amount: int, singular: str, plural: str = "") -> str:
    """Return an amount with its noun.

    >>> count(1, "alert"), count(1200, "request")
    ('1 alert', '1,200 requests')
    """
    return f"{amount:,} {singular if amount == 1 else plural or singular + 's'}"


def headline(state: LoopState) -> str:
    """Return in one or two sentences what serves and what is going on."""
    traffic = state.traffic
    if traffic is None:
        return "The first model is being trained." if state.running else "Nothing serves yet."
    if traffic.strategy:
        return f"{count(len(traffic.parts), 'version')} answer by the strategy {traffic.strategy}."
    serving = f"Version {traffic.champion} serves"
    if state.rollout:
        share = number(traffic.share, "percent").replace(".0 %", " %")
        return f"{serving}; version {state.rollout.challenger} answers {share} while evidence is gathered."
    if state.running:
        return f"{serving}; a candidate is being trained."
    return f"{serving} every request."


def alerts_line(amount: int) -> str:
    """Return how many alerts are open, in words."""
    return "No alert is open." if amount == 0 else f"{count(amount, 'alert')} {'is' if amount == 1 else 'are'} open."


def clock_time(moment: datetime) -> str:
    """Return the time of day of a moment to the second, in UTC."""
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC"


def short_id(identifier: str) -> str:
    """Return the end of an identifier, the part in which neighbours differ.

    >>> short_id("0196a1b2-0000-7000-8000-0000004cafe1")
    '4cafe1'
    """
    return identifier[-6:]


def last_value(chart: Chart) -> str:
    """Return the newest measured value of a chart, in its unit."""
    measured = (point.value for point in reversed(chart.points) if point.value is not None)
    return number(next(measured, None), chart.unit)


def metric_names(versions: Sequence[VersionLine], limit: int = 3) -> tuple[str, ...]:
    """Return the metrics that a table of versions has room for, in the order of their first appearance."""
    names = dict.fromkeys(name for version in versions for name in version.metrics)
    return tuple(names)[:limit]


def evidence_part(evidence: Evidence) -> float:
    """Return how much of the evidence that decides has been gathered, 0 to 1."""
    return min(max(evidence.value / evidence.limit, 0.0), 1.0) if evidence.limit > 0 else 0.0
