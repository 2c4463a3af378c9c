"""Rules that start a retraining: by hand, on a schedule, on new data, on drift, on decay.

Each is a small record with one question, `due(context)`. It answers from what is stored alone, so
that any process may ask at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidewheel.clock import from_micros, micros
from tidewheel.errors import InvalidInput
from tidewheel.loop.requests import Request
from tidewheel.loop.state import LoopState
from tidewheel.monitoring.records import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What triggers are asked with."""

    now: datetime  # the present moment, aware
    state: LoopState  # the loop's memory
    rows: int  # rows of the dataset
    labelled: int  # labelled rows so far, kept or waiting
    alerts: Sequence[Alert] = ()  # open alerts of the model
    requests: Sequence[Request] = ()  # retrainings asked for by people


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a retraining is due."""

    trigger: str  # manual, cron, new_data, drift, decay or first
    key: str  # identity of the cause: one cause, one retraining
    reason: str  # in words, with the numbers
    numbers: Mapping[str, Any] = field(default_factory=dict)  # the evidence


class Trigger(Protocol):
    """A rule that may start a retraining."""

    @property
    def name(self) -> str:
        """The trigger as declared."""
        ...

    def due(self, context: Context) -> Cause | None:
        """Return the cause when a retraining is due, else None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual:
    """Somebody asked."""

    name: str = "manual"  # as declared

    def due(self, context: Context) -> Cause | None:
        """Return the oldest request that was not taken yet."""
        for request in context.requests:
            words = f"{request.by or 'somebody'} asked for it" + (f": {request.reason}" if request.reason else "")
            return Cause(trigger="manual", key=f"manual:{request.id}", reason=words, numbers={"request": request.id})
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The clock says so."""

    expression: str  # five fields: minute hour day month weekday
    tz: str  # IANA name of the time zone

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"cron({self.expression} {self.tz})"

    def due(self, context: Context) -> Cause | None:
        """Return the latest due time that was not acted on; several missed ones count as one."""
        from cronsim import CronSim

        since = context.state.cron.get(self.name, context.state.started)
        if not since:
            return None
        zone = ZoneInfo(self.tz)
        latest = next(CronSim(self.expression, context.now.astimezone(zone) + timedelta(seconds=1), reverse=True))
        due = latest.astimezone(UTC)
        if micros(due) <= since or due > context.now:
            return None
        return Cause(
            trigger="cron",
            key=f"{self.name}:{due.isoformat()}",
            reason=f"scheduled for {latest:%Y-%m-%d %H:%M} {self.tz}",
            numbers={"due": micros(due), "last": since},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewData:
    """Enough rows have come since the last retraining."""

    rows: int  # how many

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"new_data({self.rows})"

    def due(self, context: Context) -> Cause | None:
        """Return a cause when the dataset, with what waits to be kept, has grown enough."""
        waiting = context.labelled - context.state.labelled
        grown = context.rows + waiting - context.state.rows_at_last_run
        if grown < self.rows:
            return None
        return Cause(
            trigger="new_data",
            key=f"new_data:{context.state.rows_at_last_run}",
            reason=f"{grown:,} new rows since the last retraining",
            numbers={"rows": grown, "needed": self.rows},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OnAlert:
    """An alert of the monitor is open: drift of inputs or answers, or decay of the metric."""

    kind: str  # drift or decay
    settings: Mapping[str, Any]  # what the monitor watches for this trigger

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"{self.kind}({', '.join(f'{name}={value}' for name, value in self.settings.items())})"

    def due(self, context: Context) -> Cause | None:
        """Return a cause for an open alert that was not acted on yet."""
        for alert in context.alerts:
            key = f"{self.kind}:{alert.id}"
            if alert.kind == self.kind and key not in context.state.causes:
                return Cause(trigger=self.kind, key=key, reason=_words(alert), numbers=dict(alert.evidence))
        return None


def manual() -> Manual:
    """Retrain when somebody asks: `tidewheel loop trigger MODEL`. Always on, whether declared or not."""
    return Manual()


def cron(expression: str, *, tz: str = "UTC") -> Cron:
    """Retrain on a schedule of five fields in a time zone; a time missed while nothing ran is made up for once.

    Raises InvalidInput for an expression or zone that is not understood.
    """
    from cronsim import CronSim, CronSimError

    try:
        CronSim(expression, datetime(2026, 1, 1, tzinfo=ZoneInfo(tz)))
    except CronSimError as error:
        raise InvalidInput(f"{expression!r} is not a schedule: {error}.", "Use five fields, like 0 3 * * *.") from error
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidInput(f"{tz!r} is not a time zone.", "Use an IANA name, like Europe/Paris.") from error
    return Cron(expression=expression, tz=tz)


def new_data(rows: int) -> NewData:
    """Retrain when so many rows have come since the last time."""
    if rows < 1:
        raise InvalidInput(f"new_data(rows={rows}) is always due.", "Give 1 or more.")
    return NewData(rows=rows)


def drift(psi: float = 0.2, *, windows: int = 2) -> OnAlert:
    """Retrain when a column's population stability index stays above `psi` for some windows, beyond chance."""
    if not psi > 0 or windows < 1:
        raise InvalidInput(
            f"drift(psi={psi}, windows={windows}) is always due.", "Give a psi above 0 and windows >= 1."
        )
    return OnAlert(kind="drift", settings={"psi": psi, "windows": windows})


def decay(metric: str, *, worse_by: float = 0.1) -> OnAlert:
    """Retrain when a metric, by the labels that come, is worse than at the champion's choice by more than tolerated.

    `worse_by` is in points of a share (accuracy: 0.05 is five points), else a share of the reference (rmse: 0.1 is a
    tenth).
    """
    if not worse_by > 0:
        raise InvalidInput(f"decay(worse_by={worse_by}) is always due.", "Give a tolerance above 0.")
    return OnAlert(kind="decay", settings={"metric": metric, "worse_by": worse_by})


def _words(alert: Alert) -> str:
    numbers = alert.evidence
    if alert.kind == "drift":
        names = [str(column["name"]) for column in numbers.get("columns", ())][:3]
        return f"{numbers.get('drifted')} of {numbers.get('compared')} columns drifted, first {', '.join(names)}"
    shown = {name: value for name, value in numbers.items() if isinstance(value, int | float | str)}
    return f"version {alert.version}: " + ", ".join(f"{name} {_short(value)}" for name, value in shown.items())


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def ladder_due(context: Context, rungs: Sequence[int]) -> Cause | None:
    """Return the next rung of a ladder that began with an alarm, when enough labelled rows have come since."""
    ladder = context.state.ladder
    if ladder is None or ladder.rung >= len(rungs):
        return None
    grown = context.labelled - ladder.began
    if grown < rungs[ladder.rung]:
        return None
    return Cause(
        trigger=ladder.trigger,
        key=f"ladder:{ladder.alert}:{ladder.rung}",
        reason=f"again with {grown:,} rows since the alarm of {ladder.trigger}",
        numbers={"rows_since_alarm": grown, "rung": ladder.rung, "rungs": list(rungs)},
    )


def since(moment: int) -> datetime | None:
    """Return the moment of stored microseconds; None for 0, which means never."""
    return from_micros(moment) if moment else None
