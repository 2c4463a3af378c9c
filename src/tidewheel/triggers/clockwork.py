"""Triggers of the clock: cron in a time zone, and intervals; what was missed is made up for as the policy says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from tidewheel.clock import from_micros, micros
from tidewheel.errors import InvalidInput
from tidewheel.triggers.records import Context, Reading, Rule, span, words

if TYPE_CHECKING:
    from cronsim import CronSim

Missed = Literal["latest", "all", "skip"]
MISSED = ("latest", "all", "skip")
_FAR = timedelta(days=366 * 41)  # the longest a calendar makes one wait: 29 February on a weekday, over a year 2100
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clockwork(Rule):
    """A trigger with due times; it remembers the last one that was acted on."""

    missed: Missed = "latest"  # what to do with due times that passed while nobody looked
    limit: int = 100  # with "all": so many are made up for, the newest
    grace: float = 300.0  # with "skip": seconds after which a due time is missed

    @property
    def kind(self) -> str:
        """What this kind of trigger is called."""
        raise NotImplementedError

    def latest(self, now: datetime) -> datetime | None:
        """Return the newest due time up to a moment, in UTC."""
        return next(iter(self.back_from(now, now - _FAR)), None)

    def back_from(self, now: datetime, last: datetime) -> Iterator[datetime]:
        """Give the due times after `last` up to `now`, the newest first, in UTC."""
        raise NotImplementedError

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first due time after a moment, in UTC."""
        raise NotImplementedError

    def shown(self, due: datetime) -> str:
        """Return a due time as its users read it."""
        return f"{due:%Y-%m-%d %H:%M} UTC"

    def look(self, context: Context) -> Reading:
        """Say which due time is to be acted on, if any."""
        remembered, now = context.remembered(self.name), context.now
        if remembered is None:
            return self._quiet(f"counts from now on; {self._next(now)}", keep={self.name: str(micros(now))})
        last = from_micros(int(remembered))
        due = self._due(now, last)
        if due is None and now < last:
            return self._quiet(f"was acted on for {self.shown(last)}, ahead of the clock; {self._next(last)}")
        if due is None:
            return self._quiet(self._next(now))
        mark = str(micros(due))
        if self.missed == "skip" and now - due > timedelta(seconds=self.grace):
            return self._quiet(
                f"missed at {self.shown(due)} and passed over; {self._next(now)}", keep={self.name: mark}
            )
        return Reading(
            rule=self.name,
            kind=self.kind,
            holds=True,
            reason=f"scheduled for {self.shown(due)}",
            mark=mark,
            numbers={"due": due.isoformat()},
            after={self.name: mark},
        )

    def _due(self, now: datetime, last: datetime) -> datetime | None:
        """Return the due time that comes next in turn: the newest, or with "all" the oldest within the limit."""
        due = None
        for count, found in enumerate(self.back_from(now, last), start=1):
            due = found
            if self.missed != "all" or count == self.limit:
                break
        return due

    def _next(self, moment: datetime) -> str:
        following = self.next_after(moment)
        return "never due again" if following is None else f"next due {self.shown(following)}"

    def _quiet(self, reason: str, keep: dict[str, str] | None = None) -> Reading:
        return Reading(rule=self.name, kind=self.kind, holds=False, reason=reason, keep=keep or {})

    def _suffix(self) -> str:
        return "" if self.missed == "latest" else f" missed={self.missed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron(Clockwork):
    """The calendar says so.

    A time that the clock skips in spring is due right after the gap; one that comes twice in autumn is due once, or
    twice where hour or minute begins with a `*` (as Debian's cron has it).
    """

    expression: str  # five fields: minute hour day month weekday
    tz: str  # IANA name of the time zone

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"cron({self.expression} {self.tz}{self._suffix()})"

    @property
    def kind(self) -> str:
        """What this kind of trigger is called."""
        return "cron"

    def shown(self, due: datetime) -> str:
        """Return a due time in its zone."""
        return f"{due.astimezone(ZoneInfo(self.tz)):%Y-%m-%d %H:%M} {self.tz}"

    def back_from(self, now: datetime, last: datetime) -> Iterator[datetime]:
        """Give the due times after `last` up to `now`, the newest first."""
        newest, oldest = _whole_minute(now), max(last, now - _FAR)
        width = timedelta(days=1)
        while newest > oldest:
            begin = max(newest - width, oldest)
            yield from reversed(_between(self.expression, self.tz, begin, newest))
            newest, width = begin, width * 2

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first due time after a moment."""
        return _next(self.expression, self.tz, _whole_minute(moment))


@dataclass(frozen=True, slots=True, kw_only=True)
class Every(Clockwork):
    """A stretch of time has passed; due times lie on a grid from an anchor, whenever the process began."""

    seconds: float  # length of the stretch
    anchor: datetime  # a moment on the grid, aware

    @property
    def name(self) -> str:
        """The trigger as declared."""
        begins = f" from {self.anchor.isoformat()}" if micros(self.anchor) else ""
        return f"every({words(self.seconds)}{begins}{self._suffix()})"

    @property
    def kind(self) -> str:
        """What this kind of trigger is called."""
        return "interval"

    def shown(self, due: datetime) -> str:
        """Return a due time to the second."""
        return f"{due.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    def back_from(self, now: datetime, last: datetime) -> Iterator[datetime]:
        """Give the points of the grid after `last` up to `now`, the newest first."""
        step, zero = round(self.seconds * 1e6), micros(self.anchor)
        point = zero + (micros(now) - zero) // step * step
        while point > micros(last):
            yield from_micros(point)
            point -= step

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the next point of the grid."""
        step, zero = round(self.seconds * 1e6), micros(self.anchor)
        return from_micros(zero + ((micros(moment) - zero) // step + 1) * step)


def cron(
    expression: str, *, tz: str = "UTC", missed: Missed = "latest", limit: int = 100, grace: str | float = "5m"
) -> Cron:
    """Be due on a calendar of five fields in a time zone.

    Of times that passed while nothing ran, `missed="latest"` makes up for the newest alone, `"all"` for each of the
    `limit` newest, `"skip"` for none that is older than `grace`.

    Raises InvalidInput for an expression that is not understood or never comes, and for an unknown zone.
    """
    from cronsim import CronSimError

    if len(expression.split()) != 5:
        raise InvalidInput(f"{expression!r} is not a schedule of five fields.", "Use five fields, like 0 3 * * *.")
    check_zone(tz)
    try:
        _parsed(expression)
    except CronSimError as error:
        never = "; such a day never comes" if "day-of-month" in str(error) else ""
        raise InvalidInput(
            f"{expression!r} is not a schedule: {error}{never}.", "Use five fields, like 0 3 * * *."
        ) from error
    if _next(expression, "UTC", datetime(2026, 1, 1, tzinfo=UTC)) is None:
        raise InvalidInput(f"{expression!r} never comes.", "Correct its day, month or weekday.")
    return Cron(expression=" ".join(expression.split()), tz=tz, **_missed(missed, limit, grace))


def every(
    interval: str | float | timedelta,
    *,
    anchor: datetime | None = None,
    missed: Missed = "latest",
    limit: int = 100,
    grace: str | float = "5m",
) -> Every:
    """Be due each time a stretch like "15m" has passed since an anchor (default: 1970 in UTC), not since a start.

    `missed`, `limit` and `grace` are those of `cron`. Raises InvalidInput below one second and for a naive anchor.
    """
    length = span(interval, "every")
    if length < 1:
        raise InvalidInput(f"every({interval!r}) is due without pause.", 'Give at least a second, like every("15m").')
    if anchor is not None and anchor.tzinfo is None:
        raise InvalidInput(f"The anchor {anchor} has no time zone.", "Give an aware moment: datetime(..., tzinfo=UTC).")
    return Every(seconds=length, anchor=anchor or datetime(1970, 1, 1, tzinfo=UTC), **_missed(missed, limit, grace))


def clocks(rules: Iterator[object]) -> Iterator[Clockwork]:
    """Give those triggers that follow the clock."""
    return (rule for rule in rules if isinstance(rule, Clockwork))


def check_zone(tz: str) -> ZoneInfo:
    """Return a time zone by its IANA name; raises InvalidInput, with a near name, for one that does not exist."""
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = get_close_matches(tz, available_timezones(), n=1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise InvalidInput(f"{tz!r} is not a time zone.", f"{meant}Use an IANA name, like Europe/Paris.") from error


def _missed(missed: Missed, limit: int, grace: str | float) -> dict[str, Any]:
    if missed not in MISSED:
        raise InvalidInput(f"missed={missed!r} is not known.", f"Use one of {', '.join(MISSED)}.")
    if limit < 1:
        raise InvalidInput(f"limit={limit} makes up for nothing.", 'Give 1 or more, or missed="skip".')
    return {"missed": missed, "limit": limit, "grace": span(grace, "grace")}


def _whole_minute(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


@lru_cache(maxsize=256)
def _parsed(expression: str) -> CronSim:
    """Return the fields of an expression; the moment is needed for nothing."""
    from cronsim import CronSim

    return CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC))


@lru_cache(maxsize=1024)
def _next(expression: str, tz: str, moment: datetime) -> datetime | None:
    begin, width = moment, timedelta(days=1)
    while begin < moment + _FAR:
        found = _between(expression, tz, begin, begin + width)
        if found:
            return found[0]
        begin, width = begin + width, width * 2
    return None


@lru_cache(maxsize=1024)
def _between(expression: str, tz: str, after: datetime, until: datetime) -> tuple[datetime, ...]:
    """Return the due times after one moment up to another, in UTC, oldest first.

    The days around are looked at too: where a clock is turned back over midnight, days overlap.
    """
    zone, fields = ZoneInfo(tz), _parsed(expression)
    day, last = after.astimezone(zone).date() - timedelta(days=2), until.astimezone(zone).date() + timedelta(days=1)
    found: set[datetime] = set()
    while day <= last:
        if day.month in fields.months and fields.match_day(day):
            found.update(_on(expression, tz, day))
        day += timedelta(days=1)
    return tuple(sorted(due for due in found if after < due <= until))


@lru_cache(maxsize=512)
def _on(expression: str, tz: str, day: date) -> tuple[datetime, ...]:
    """Return the due times that a day of the calendar has in a zone."""
    fields, zone = _parsed(expression), ZoneInfo(tz)
    follows_clock = fields.parts[1].startswith("*") or fields.parts[2].startswith("*")
    found: list[datetime] = []
    for hour, minute in product(sorted(fields.hours), sorted(fields.minutes)):
        local = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 - the zone comes next
        moments = [moment for moment in (_utc(local, zone, fold) for fold in (0, 1)) if moment is not None]
        if follows_clock:
            found += moments
        else:
            found.append(moments[0] if moments else _after_gap(local, zone))
    return tuple(found)


def _utc(local: datetime, zone: ZoneInfo, fold: int) -> datetime | None:
    """Return the moment of a local time, None when the clock skips it."""
    moment = local.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    return moment if moment.astimezone(zone).replace(tzinfo=None) == local else None


def _after_gap(local: datetime, zone: ZoneInfo) -> datetime:
    moment = None
    while moment is None:
        local += _MINUTE
        moment = _utc(local, zone, 0)
    return moment
