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

from tidewheel.clock import micros
from tidewheel.errors import InvalidInput
from tidewheel.loop.requests import Request
from tidewheel.loop.state import LoopState
from tidewheel.monitoring.records import Alert

ALARMS = ("drift", "decay")  # kinds of alerts that triggers follow


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What triggers are asked with."""

    now: datetime  # the present moment, aware
    state: LoopState  # the loop's memory
    version: str  # id of the newest version of the dataset
    rows: int  # rows of the dataset, with those that wait to be kept
    labelled: int  # labelled rows so far, kept or waiting
    deployed: bool = True  # whether a model answers
    rolling: bool = False  # whether a rollout is being decided
    alerts: Sequence[Alert] = ()  # open alerts of the version that answers
    requests: Sequence[Request] = ()  # retrainings asked for by people


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a retraining is due."""

    trigger: str  # manual, cron, new_data, drift, decay or first
    rule: str  # the rule that found it; a rule remembers the mark of its last cause
    mark: str  # tells its causes apart: the due time, the alert, the request
    reason: str  # in words, with the numbers
    numbers: Mapping[str, Any] = field(default_factory=dict)  # the evidence

    @property
    def key(self) -> str:
        """Identity of the cause: one cause, one retraining."""
        return f"{self.rule}:{self.mark}"


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
            return Cause(trigger="manual", rule="manual", mark=request.id, reason=words)
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
        last = context.state.acted.get(self.name)
        if last is None:
            return None  # a schedule counts from the first look that knows it
        latest = self.latest(context.now)
        if latest is None or micros(latest) <= int(last):
            return None
        local = latest.astimezone(ZoneInfo(self.tz))
        return Cause(
            trigger="cron",
            rule=self.name,
            mark=str(micros(latest)),
            reason=f"scheduled for {local:%Y-%m-%d %H:%M} {self.tz}",
        )

    def latest(self, now: datetime) -> datetime | None:
        """Return the newest due time up to a moment, in UTC.

        A time that the clock skips in spring is due right after the gap; one that comes twice in autumn is due once,
        or twice where hour or minute is a `*` (as Debian's cron has it).
        """
        from cronsim import CronSim

        # The second is added in UTC: local arithmetic would forget which of two equal hours in autumn is meant.
        after = (now.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)).astimezone(ZoneInfo(self.tz))
        due = next(CronSim(self.expression, after, reverse=True), None)
        return None if due is None else due.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewData:
    """Enough rows have come since the last retraining."""

    rows: int  # how many

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"new_data({self.rows})"

    def due(self, context: Context) -> Cause | None:
        """Return a cause when the dataset has grown enough; a retraining of any cause begins the count anew."""
        before = context.state.rows_at_last_run
        grown = context.rows - before
        if grown < self.rows:
            return None
        return Cause(
            trigger="new_data",
            rule=self.name,
            mark=str(before),
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
            if alert.kind == self.kind and context.state.acted.get(self.kind) != alert.id:
                return Cause(
                    trigger=self.kind, rule=self.kind, mark=alert.id, reason=alert.reason, numbers=dict(alert.evidence)
                )
        return None


def manual() -> Manual:
    """Retrain when somebody asks: `tidewheel loop trigger MODEL`. Always on, whether declared or not."""
    return Manual()


def cron(expression: str, *, tz: str = "UTC") -> Cron:
    """Retrain on a schedule of five fields in a time zone; a time missed while nothing ran is made up for once.

    Raises InvalidInput for an expression or zone that is not understood.
    """
    from cronsim import CronSim, CronSimError

    if len(expression.split()) != 5:
        raise InvalidInput(f"{expression!r} is not a schedule of five fields.", "Use five fields, like 0 3 * * *.")
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
