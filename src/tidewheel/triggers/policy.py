"""When something that is due has to wait: one at a time, debounce, cooldown, a daily budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidewheel.clock import from_micros, micros
from tidewheel.errors import InvalidInput
from tidewheel.triggers.clockwork import check_zone
from tidewheel.triggers.records import span, words


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why something that is due has to wait."""

    rule: str  # one_at_a_time, debounce, cooldown, budget; of a loop also gave_up and cooldown_rows
    text: str  # in words, with the numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds a due run back.

    >>> Policy(cooldown="6h", max_per_day=4, tz="Europe/Paris").one_at_a_time
    True
    """

    one_at_a_time: bool = True  # whether a run waits until the one before has ended
    debounce: str | float | timedelta = 0  # a run begins once nothing more has come for so long
    cooldown: str | float | timedelta = 0  # least time between the begin of two runs
    max_per_day: int | None = None  # most runs on a day; None: no limit
    tz: str = "UTC"  # time zone of that day

    def __post_init__(self) -> None:
        for name in ("debounce", "cooldown"):
            span(getattr(self, name), name, positive=False)
        if self.max_per_day is not None and self.max_per_day < 1:
            raise InvalidInput(f"max_per_day={self.max_per_day} allows nothing.", "Give 1 or more, or leave it out.")
        check_zone(self.tz)

    def describe(self) -> dict[str, Any]:
        """Return what is declared, as JSON."""
        return {
            "one_at_a_time": self.one_at_a_time,
            "debounce": span(self.debounce, "debounce", positive=False),
            "cooldown": span(self.cooldown, "cooldown", positive=False),
            "max_per_day": self.max_per_day,
            "tz": self.tz,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The runs of a schedule so far, as a policy asks for them."""

    going_on: str = ""  # id of a run that has not ended
    last: datetime | None = None  # begin of the newest
    today: int = 0  # how many on the day at hand


def day_of(policy: Policy, now: datetime) -> datetime:
    """Return the begin of the policy's day."""
    return now.astimezone(check_zone(policy.tz)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def refusal(policy: Policy, past: Past, quiet_since: Mapping[str, Any] | None, now: datetime) -> Refusal | None:
    """Return why a due run has to wait, None when it may begin; its cause is the same since `quiet_since`."""
    if policy.one_at_a_time and past.going_on:
        return Refusal(rule="one_at_a_time", text=f"the run {past.going_on} has not ended")
    return (
        _too_loud(span(policy.debounce, "debounce", positive=False), quiet_since, now)
        or too_soon(timedelta(seconds=span(policy.cooldown, "cooldown", positive=False)), past.last, now)
        or too_many(policy.max_per_day, past.today, "runs")
    )


def too_soon(cooldown: timedelta, last: datetime | None, now: datetime) -> Refusal | None:
    """Return a refusal within the cooldown; a last time that lies ahead, because the clock went back, holds nothing."""
    if last is None or not timedelta(0) <= now - last < cooldown:
        return None
    left = timedelta(seconds=round((cooldown - (now - last)).total_seconds()))
    return Refusal(rule="cooldown", text=f"cooldown of {cooldown}, {left} left")


def too_many(budget: int | None, today: int, noun: str) -> Refusal | None:
    """Return a refusal when the day's budget is spent."""
    if budget is None or today < budget:
        return None
    return Refusal(rule="budget", text=f"{today} {noun} today, the budget is {budget}")


def stirred(before: Mapping[str, Any] | None, mark: str, now: datetime) -> dict[str, Any]:
    """Return since when a cause is what it is: from now on when it has changed."""
    if before is not None and before["mark"] == mark and before["since"] <= micros(now):
        return dict(before)
    return {"mark": mark, "since": micros(now)}


def _too_loud(debounce: float, quiet_since: Mapping[str, Any] | None, now: datetime) -> Refusal | None:
    if not debounce or quiet_since is None or now - from_micros(quiet_since["since"]) >= timedelta(seconds=debounce):
        return None
    return Refusal(rule="debounce", text=f"waits until nothing has changed for {words(debounce)}")
