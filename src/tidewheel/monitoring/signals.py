"""What a window says, and the rule of alerts: open after some windows agree, stay, close after some calm ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.monitoring.records import AlertKind, ColumnDrift, Traffic

SHOWN_COLUMNS = 10  # drifted columns that are listed in the evidence
REFUSED = "refused requests"
CALM = "calm"  # why most alerts close
FEWEST_ERRORS = 3  # one failed request of a small window is no alert


class Streak(msgspec.Struct, frozen=True, kw_only=True):
    """Windows in a row that agree."""

    breaches: int = 0  # beyond the threshold
    calm: int = 0  # below the exit threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What one window says about one kind of alert."""

    kind: AlertKind  # which kind
    breach: bool  # beyond the threshold
    calm: bool  # below the exit threshold; between the two an alert stays as it is
    reason: str  # what is seen, in words
    evidence: Mapping[str, Any]  # the numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """An alert opens or closes."""

    kind: AlertKind  # which kind
    opens: bool  # opens, or closes
    reason: str  # why, in words
    evidence: Mapping[str, Any]  # the numbers that decided


NO_STREAKS: Mapping[str, Streak] = MappingProxyType({})


def traffic_signals(traffic: Traffic, policy: MonitorPolicy) -> list[Signal]:
    """Return what a traffic window says about drift, errors, latency and schema."""
    return [
        _drift(traffic.columns, policy),
        _errors(traffic, policy),
        _latency(traffic, policy),
        _schema(traffic, policy),
    ]


def follow(
    streaks: Mapping[str, Streak], signals: Sequence[Signal], is_open: frozenset[AlertKind], policy: MonitorPolicy
) -> tuple[dict[str, Streak], list[Transition]]:
    """Return the streaks after one window, and the alerts that it opens or closes."""
    counted, transitions = dict(streaks), []
    for signal in signals:
        before = counted.get(signal.kind, Streak())
        now = Streak(breaches=before.breaches + 1 if signal.breach else 0, calm=before.calm + 1 if signal.calm else 0)
        counted[signal.kind] = now
        if signal.kind not in is_open and now.breaches >= policy.windows:
            evidence = {**signal.evidence, "windows": now.breaches}
            transitions.append(Transition(kind=signal.kind, opens=True, reason=signal.reason, evidence=evidence))
        elif signal.kind in is_open and now.calm >= policy.clear_windows:
            evidence = {**signal.evidence, "windows": now.calm}
            transitions.append(Transition(kind=signal.kind, opens=False, reason=CALM, evidence=evidence))
    return counted, transitions


def _drift(columns: Sequence[ColumnDrift], policy: MonitorPolicy) -> Signal:
    drifted = [column for column in columns if column.drifted]
    still = [column for column in columns if _near(column, policy)]
    evidence = {
        "threshold": {"psi": policy.psi, "ks": policy.ks},
        "drifted": len(drifted),
        "compared": len(columns),
        "columns": [msgspec.to_builtins(column) for column in (drifted or list(columns))[:SHOWN_COLUMNS]],
    }
    return Signal(kind="drift", breach=bool(drifted), calm=not still, reason=_drift_reason(drifted), evidence=evidence)


def _drift_reason(drifted: Sequence[ColumnDrift]) -> str:
    if not drifted:
        return "no column has drifted"
    worst = drifted[0]
    more = f", and {len(drifted) - 1} more" if len(drifted) > 1 else ""
    return f"{worst.name} has moved: PSI {worst.psi:.2f}, where chance reaches {worst.psi_band:.2f}{more}"


def _near(column: ColumnDrift, policy: MonitorPolicy) -> bool:
    """Say whether a column is beyond the exit threshold and outside the band."""
    by_psi = policy.psi is not None and column.psi >= policy.psi * policy.exit_ratio and column.psi > column.psi_band
    if policy.ks is None or column.ks is None or column.ks_band is None:
        return by_psi
    return by_psi or (column.ks >= policy.ks * policy.exit_ratio and column.ks > column.ks_band)


def _errors(traffic: Traffic, policy: MonitorPolicy) -> Signal:
    shares = {
        name: arm.errors / arm.requests
        for name, arm in traffic.arms.items()
        if arm.requests and (arm.errors >= FEWEST_ERRORS)
    }
    evidence = {
        "threshold": policy.error_rate,
        "arms": {name: {"requests": arm.requests, "errors": arm.errors} for name, arm in traffic.arms.items()},
    }
    worst = max(shares.values(), default=0.0)
    reason = f"{worst:.1%} of an arm's requests fail"
    return _threshold("errors", worst, policy.error_rate, policy, reason=reason, evidence=evidence)


def _latency(traffic: Traffic, policy: MonitorPolicy) -> Signal:
    slow = {name: arm.p99_ms for name, arm in traffic.arms.items() if arm.p99_ms is not None}
    evidence = {"threshold_ms": policy.latency_ms, "p99_ms": slow}
    worst = max(slow.values(), default=0.0)
    reason = f"one in a hundred requests of an arm takes longer than {worst:g} ms"
    return _threshold("latency", worst, policy.latency_ms, policy, reason=reason, evidence=evidence)


def _schema(traffic: Traffic, policy: MonitorPolicy) -> Signal:
    refused = sum(arm.refused for arm in traffic.arms.values())
    asked = refused + sum(arm.requests for arm in traffic.arms.values())
    shares = {REFUSED: refused / asked if asked else 0.0}
    for column in traffic.columns:
        shares[column.name] = max(column.missing, column.unknown)
    worst = dict(sorted(shares.items(), key=lambda item: -item[1])[:SHOWN_COLUMNS])
    evidence = {"threshold": policy.schema, "refused": refused, "requests": asked, "shares": worst}
    name, share = next(iter(worst.items()))
    what = f"{share:.1%} of requests are refused" if name == REFUSED else f"{share:.1%} of {name} is missing or unknown"
    return _threshold("schema", share, policy.schema, policy, reason=what, evidence=evidence)


def _threshold(
    kind: AlertKind,
    worst: float,
    threshold: float | None,
    policy: MonitorPolicy,
    *,
    reason: str,
    evidence: Mapping[str, Any],
) -> Signal:
    if threshold is None:
        return Signal(kind=kind, breach=False, calm=True, reason=reason, evidence=evidence)
    calm = worst < threshold * policy.exit_ratio
    return Signal(kind=kind, breach=worst >= threshold, calm=calm, reason=reason, evidence=evidence)
