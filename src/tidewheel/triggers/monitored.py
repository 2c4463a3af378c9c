"""Triggers on what the monitor sees: drift, decay, and any metric of the labelled windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.monitoring.records import Window
from tidewheel.monitoring.windows import list_windows
from tidewheel.triggers.records import Context, Reading, Rule

ALARMS = ("drift", "decay")  # kinds of alerts that triggers follow
_BACK = 50  # newest windows that are looked through


@dataclass(frozen=True, slots=True, kw_only=True)
class OnAlert(Rule):
    """An alert of the monitor is open: drift of inputs or answers, or decay of the metric."""

    kind: str  # drift or decay
    settings: Mapping[str, Any]  # what the monitor watches for this trigger
    model: str = ""  # whose alert; empty: of the loop that the trigger belongs to

    @property
    def name(self) -> str:
        """The trigger as declared."""
        declared = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.kind}({f'{self.model}, ' if self.model else ''}{declared})"

    @property
    def rule(self) -> str:
        """Under which name it remembers: triggers of one kind follow the same alert."""
        return f"{self.kind}:{self.model}" if self.model else self.kind

    def look(self, context: Context) -> Reading:
        """Hold for an open alert that was not acted on yet."""
        for alert in context.open_alerts(self.model):
            if alert.kind == self.kind and context.remembered(self.rule) != alert.id:
                return Reading(
                    rule=self.rule,
                    kind=self.kind,
                    holds=True,
                    reason=alert.reason,
                    mark=alert.id,
                    numbers=dict(alert.evidence),
                    after={self.rule: alert.id},
                )
        return Reading(rule=self.rule, kind=self.kind, holds=False, reason=f"no new alert of {self.kind}")

    def for_windows(self, count: int) -> Rule:
        """Return the trigger asking for so many drifted windows in a row."""
        if self.kind != "drift":
            return Rule.for_windows(self, count)
        return drift(self.settings["psi"], windows=count, model=self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windowed(Rule):
    """So many windows of the monitor in a row are beyond a limit; due again once one of them was not."""

    model: str  # whose windows
    windows: int  # how many in a row

    @property
    def kind(self) -> str:
        """What this kind of trigger is called."""
        raise NotImplementedError

    def look(self, context: Context) -> Reading:
        """Hold when the newest windows are beyond the limit, unless a run has answered the same stretch."""
        found = self.listed(context)
        beyond = [window for window in found[: self.windows] if self.beyond(window)]
        if len(found) < self.windows or len(beyond) < self.windows:
            seen = f"{len(beyond)} of the {self.windows} newest windows beyond it" if found else "no window yet"
            return Reading(rule=self.name, kind=self.kind, holds=False, reason=f"{self.name}: {seen}")
        acted = context.remembered(self.name)
        if acted is not None and not self._calmed(found, acted):
            return Reading(
                rule=self.name, kind=self.kind, holds=False, reason=f"{self.name}: the same stretch as last time"
            )
        mark = {"version": found[0].version, "number": found[0].number}
        return Reading(
            rule=self.name,
            kind=self.kind,
            holds=True,
            reason=self.told(found[0]),
            mark=f"{found[0].version}.{found[0].number}",
            numbers=mark,
            after={self.name: mark},
        )

    def listed(self, context: Context) -> list[Window]:
        """Return the newest windows of the champion, newest first."""
        raise NotImplementedError

    def beyond(self, window: Window) -> bool:
        """Say whether a window is beyond the limit."""
        raise NotImplementedError

    def told(self, window: Window) -> str:
        """Say what the newest window showed."""
        raise NotImplementedError

    def for_windows(self, count: int) -> Rule:
        """Return the trigger asking for so many windows in a row."""
        _check_windows(self.name, count)
        return replace(self, windows=count)

    def _calmed(self, found: list[Window], acted: Mapping[str, int]) -> bool:
        if found[0].version != acted["version"]:
            return True
        return any(window.number > acted["number"] and not self.beyond(window) for window in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted(Windowed):
    """A column has moved beyond a population stability index, and beyond what chance gives."""

    psi: float  # population stability index

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"drift({self.model}, psi={self.psi:g}, windows={self.windows})"

    @property
    def kind(self) -> str:
        """What this kind of trigger is called."""
        return "drift"

    def listed(self, context: Context) -> list[Window]:
        """Return the newest windows over traffic."""
        return _of_newest_version(list_windows(context.store, self.model, _BACK, kind="traffic"))

    def beyond(self, window: Window) -> bool:
        """Say whether some column is beyond the limit."""
        columns = window.traffic.columns if window.traffic else []
        return any(column.psi > max(self.psi, column.psi_band) for column in columns)

    def told(self, window: Window) -> str:
        """Name the column that moved most."""
        columns = window.traffic.columns if window.traffic else []
        worst = max(columns, key=lambda column: column.psi)
        return f"{worst.name} of {self.model} has moved: psi {worst.psi:.3g} above {self.psi:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Windowed):
    """A metric by the labels that come is below or above a limit."""

    metric: str  # its name
    below: float | None = None  # due below that
    above: float | None = None  # due above that

    @property
    def name(self) -> str:
        """The trigger as declared."""
        limit = f"below={self.below:g}" if self.below is not None else f"above={self.above:g}"
        return f"metric({self.model}, {self.metric}, {limit}, windows={self.windows})"

    @property
    def kind(self) -> str:
        """What this kind of trigger is called."""
        return "metric"

    def listed(self, context: Context) -> list[Window]:
        """Return the newest windows over labels that have the metric."""
        found = list_windows(context.store, self.model, _BACK, kind="labels")
        return _of_newest_version([window for window in found if self._value(window) is not None])

    def beyond(self, window: Window) -> bool:
        """Say whether the metric is beyond the limit."""
        found = self._value(window)
        if found is None:
            return False
        return found < self.below if self.below is not None else found > (self.above or 0.0)

    def told(self, window: Window) -> str:
        """Say what the metric is."""
        word, limit = ("below", self.below) if self.below is not None else ("above", self.above)
        return f"{self.metric} of {self.model} is {self._value(window):.4g}, {word} {limit:g}"

    def _value(self, window: Window) -> float | None:
        return window.performance.metrics.get(self.metric) if window.performance else None


def _of_newest_version(found: list[Window]) -> list[Window]:
    return [window for window in found if window.version == found[0].version]


def _check_windows(name: str, count: int) -> None:
    if count < 1:
        raise InvalidInput(f"{name} with windows={count} is always due.", "Give windows >= 1.")


def drift(psi: float = 0.2, *, windows: int = 2, model: str = "") -> Rule:
    """Be due when a column's population stability index stays above `psi` for some windows, beyond chance.

    In a loop its own model is meant, and the loop watches for it; a schedule names the `model` of a loop.
    """
    if not psi > 0 or windows < 1:
        raise InvalidInput(
            f"drift(psi={psi}, windows={windows}) is always due.", "Give a psi above 0 and windows >= 1."
        )
    if model:
        return Drifted(model=model, psi=psi, windows=windows)
    return OnAlert(kind="drift", settings={"psi": psi, "windows": windows})


def decay(metric: str = "", *, worse_by: float = 0.1, model: str = "") -> OnAlert:
    """Be due when a metric, by the labels that come, is worse than at the champion's choice by more than tolerated.

    `worse_by` is in points of a share (accuracy: 0.05 is five points), else a share of the reference (rmse: 0.1 is a
    tenth). A schedule names the `model` of a loop instead, which declares what it tolerates.
    """
    if model:
        return OnAlert(kind="decay", settings={}, model=model)
    if not metric:
        raise InvalidInput("decay() names no metric.", 'Name one, like decay("rmse"), or a model of a loop.')
    if not worse_by > 0:
        raise InvalidInput(f"decay(worse_by={worse_by}) is always due.", "Give a tolerance above 0.")
    return OnAlert(kind="decay", settings={"metric": metric, "worse_by": worse_by})


def metric(
    model: str, name: str, *, below: float | None = None, above: float | None = None, windows: int = 1
) -> Measured:
    """Be due when a metric over the labelled windows of a model is below or above a limit, for some windows in a row.

    Raises InvalidInput unless one of the two limits is given.
    """
    if (below is None) == (above is None):
        raise InvalidInput(f"metric({model!r}, {name!r}) has not one limit.", "Give either below=... or above=...")
    _check_windows(f"metric({model!r}, {name!r})", windows)
    return Measured(model=model, metric=name, below=below, above=above, windows=windows)
