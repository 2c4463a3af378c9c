"""The alert rule: opens after N windows, stays between the thresholds, closes when calm."""

from __future__ import annotations

import pytest

from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.monitoring.records import AlertKind
from tidewheel.monitoring.signals import NO_STREAKS, Signal, Streak, follow

SIGNALS = {
    "breach": Signal(kind="drift", breach=True, calm=False, reason="", evidence={}),
    "between": Signal(kind="drift", breach=False, calm=False, reason="", evidence={}),
    "calm": Signal(kind="drift", breach=False, calm=True, reason="", evidence={}),
}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("breach", ""),
        ("breach breach", "open"),
        ("breach between breach", ""),
        ("breach calm breach", ""),
        ("breach breach breach breach", "open"),
        ("breach breach calm", "open"),
        ("breach breach calm calm", "open close"),
        ("breach breach calm between calm", "open"),
        ("breach breach between between between", "open"),
        ("breach breach calm breach calm", "open"),
        ("breach breach calm calm calm breach breach", "open close open"),
        ("calm calm calm", ""),
    ],
)
def test_an_alert_opens_stays_and_closes(seen: str, expected: str) -> None:
    policy = MonitorPolicy(windows=2, clear_windows=2)
    streaks: dict[str, Streak] = dict(NO_STREAKS)
    is_open: set[AlertKind] = set()
    turned = []
    for name in seen.split():
        streaks, transitions = follow(streaks, [SIGNALS[name]], frozenset(is_open), policy)
        for transition in transitions:
            turned.append("open" if transition.opens else "close")
            (is_open.add if transition.opens else is_open.discard)(transition.kind)
    assert " ".join(turned) == expected


def test_kinds_are_counted_apart() -> None:
    policy = MonitorPolicy(windows=1)
    both = [
        Signal(kind="drift", breach=True, calm=False, reason="", evidence={"psi": 1}),
        Signal(kind="errors", breach=False, calm=True, reason="", evidence={}),
    ]
    streaks, transitions = follow(NO_STREAKS, both, frozenset(), policy)
    assert [transition.kind for transition in transitions] == ["drift"]
    assert transitions[0].evidence == {"psi": 1, "windows": 1}
    assert streaks["errors"] == Streak(breaches=0, calm=1)
