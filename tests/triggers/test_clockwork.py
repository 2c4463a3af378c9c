"""Due times against an oracle that walks every minute; what is missed; declarations that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewheel.clock import from_micros, micros
from tidewheel.errors import InvalidInput
from tidewheel.testing.triggers import Asking
from tidewheel.triggers.clockwork import Clockwork, Cron, cron, every

MINUTE = timedelta(minutes=1)
# Clocks that change by an hour, by half an hour, at midnight, and once by a whole day.
CHANGES = {
    "Europe/Paris": ["2026-03-29", "2026-10-25"],
    "America/New_York": ["2026-03-08", "2026-11-01"],
    "America/St_Johns": ["2006-04-02", "2006-10-29"],
    "America/Havana": ["2026-03-08", "2026-11-01"],
    "Australia/Lord_Howe": ["2026-04-05", "2026-10-04"],
    "Asia/Beirut": ["2024-03-31", "2024-10-27"],
    "Pacific/Apia": ["2011-12-30"],
    "Asia/Kathmandu": ["2026-05-01"],
    "UTC": ["2026-02-28"],
}
NUMBERS = {"minute": 59, "hour": 23}


def walked(rule: Cron, begin: datetime, end: datetime) -> list[datetime]:
    """Return the due times after `begin` up to `end` by looking at every minute there is."""
    zone, (minutes, hours, days, _, weekdays) = ZoneInfo(rule.tz), rule.expression.split()
    wild = minutes.startswith("*") or hours.startswith("*")
    margin = timedelta(days=2)
    moments = [begin - margin + MINUTE * count for count in range(int((end - begin + 2 * margin) / MINUTE))]
    exists: dict[datetime, datetime] = {}  # local time to the first moment that shows it
    found: set[datetime] = set()
    for moment in moments:
        local = moment.astimezone(zone).replace(tzinfo=None)
        exists.setdefault(local, moment)
        if wild and matches(local, minutes, hours, days, weekdays):
            found.add(moment)
    local = min(exists)
    while not wild and local <= max(exists):
        if matches(local, minutes, hours, days, weekdays):
            shown = local
            while shown not in exists:
                shown += MINUTE
            found.add(exists[shown])
        local += MINUTE
    return sorted(due for due in found if begin < due <= end)


def matches(local: datetime, minutes: str, hours: str, days: str, weekdays: str) -> bool:
    both = days.startswith("*") or weekdays.startswith("*")
    day, weekday = local.day in among(days, 1, 31), local.isoweekday() % 7 in among(weekdays, 0, 6)
    on_day = (day and weekday) if both else (day or weekday)
    return local.minute in among(minutes, 0, 59) and local.hour in among(hours, 0, 23) and on_day


def among(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (str(low), "", str(high)) if span == "*" else span.partition("-")
        found |= set(range(int(first), int(last or (high if step else first)) + 1, int(step or 1)))
    return found


def a_field(low: int, high: int, *, star: bool = True) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    some = st.lists(number, min_size=1, max_size=3, unique=True).map(lambda found: ",".join(map(str, found)))
    ranges = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.integers(2, 20).map(lambda step: f"*/{step}")
    return st.one_of(some, ranges, *([st.just("*"), steps] if star else []))


expressions = st.tuples(a_field(0, 59), a_field(0, 23), a_field(1, 28), a_field(0, 6)).map(
    lambda parts: f"{parts[0]} {parts[1]} {parts[2]} * {parts[3]}"
)
early = st.tuples(a_field(0, 59, star=False), a_field(0, 4, star=False)).map(
    lambda parts: f"{parts[0]} {parts[1]} * * *"
)
places = st.sampled_from([(zone, day) for zone, days in CHANGES.items() for day in days])


@settings(max_examples=20, deadline=None)
@given(st.one_of(early, expressions), places, st.integers(0, 2_000))
def test_due_times_are_those_of_a_walk_over_every_minute(expression: str, place: tuple[str, str], offset: int) -> None:
    zone, day = place
    rule = cron(expression, tz=zone)
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1, minutes=offset)
    end = begin + timedelta(days=3)
    expected = walked(rule, begin, end)
    assert list(rule.back_from(end, begin)) == expected[::-1]
    following = rule.next_after(begin if expected else end)
    assert following is None or following == (expected[0] if expected else following) > begin
    for due in expected[:5]:
        assert rule.latest(due) == due
        assert rule.latest(due + timedelta(seconds=59)) == due


@pytest.mark.parametrize("rule", [cron("0 0 29 2 *", tz="Europe/Paris"), cron("30 12 13 * *"), cron("0 0 * * 5#5")])
def test_rare_days_come(rule: Cron) -> None:
    moment, found = datetime(2097, 1, 1, tzinfo=UTC), list[datetime]()
    for _ in range(3):
        following = rule.next_after(moment)
        assert following is not None
        found.append(following)
        moment = following
    assert list(rule.back_from(moment, datetime(2097, 1, 1, tzinfo=UTC))) == found[::-1]


moments = st.integers(946_684_800_000_000, 2_524_608_000_000_000).map(from_micros)


@given(st.integers(1, 100_000), moments, moments)
def test_intervals_lie_on_the_grid_of_their_anchor(length: int, anchor: datetime, now: datetime) -> None:
    rule = every(length, anchor=anchor)
    due = rule.latest(now)
    assert due is not None
    assert due <= now < due + timedelta(seconds=length)
    assert (micros(due) - micros(anchor)) % (length * 1_000_000) == 0
    assert rule.next_after(now) == due + timedelta(seconds=length)
    assert rule.next_after(due - timedelta(microseconds=1)) == due


def acted(rule: Clockwork, memory: dict[str, Any], now: datetime) -> list[str]:
    """Look and act until nothing is due; return the due times that were acted on."""
    found: list[str] = []
    while True:
        reading = rule.look(Asking(now, memory))
        memory.update(reading.keep)
        if not reading.holds:
            return found
        memory.update(reading.after)
        found.append(str(reading.numbers["due"])[:16])


NOON = datetime(2026, 6, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (cron("0 3 * * *"), ["2026-06-05T03:00"]),
        (cron("0 3 * * *", missed="all"), [f"2026-06-0{day}T03:00" for day in (2, 3, 4, 5)]),
        (cron("0 3 * * *", missed="all", limit=2), ["2026-06-04T03:00", "2026-06-05T03:00"]),
        (cron("0 3 * * *", missed="skip"), []),
        (cron("0 3 * * *", missed="skip", grace="10h"), ["2026-06-05T03:00"]),
        (cron("58 11 * * *", missed="skip"), ["2026-06-05T11:58"]),
        (every("1d"), ["2026-06-05T00:00"]),
        (every("1d", missed="all"), [f"2026-06-0{day}T00:00" for day in (2, 3, 4, 5)]),
    ],
    ids=lambda value: value.name if isinstance(value, Clockwork) else None,
)
def test_what_was_missed_in_four_days(rule: Clockwork, expected: list[str]) -> None:
    memory: dict[str, Any] = {}
    assert acted(rule, memory, NOON - timedelta(days=4)) == []  # it counts from the first look
    assert acted(rule, memory, NOON) == expected
    assert acted(rule, memory, NOON) == []
    assert len(acted(rule, memory, NOON + timedelta(days=1))) == (0 if not expected and rule.missed == "skip" else 1)


def test_a_clock_that_goes_back_acts_on_nothing_again_and_says_so() -> None:
    rule, memory = cron("0 * * * *"), dict[str, Any]()
    acted(rule, memory, NOON)
    assert acted(rule, memory, NOON + timedelta(days=400)) == ["2027-07-10T12:00"]
    assert acted(rule, memory, NOON + timedelta(hours=3)) == []
    assert "ahead of the clock" in rule.look(Asking(NOON, memory)).reason


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: cron("0 3 * *"), "five fields"),
        (lambda: cron("0 0 3 * * *"), "five fields"),
        (lambda: cron("0 25 * * *"), "Bad hour"),
        (lambda: cron("0 0 31 2 *"), "never comes"),
        (lambda: cron("0 0 31 4,6,9,11 *"), "never comes"),
        (lambda: cron("0 0 30 2 */1"), "never comes"),
        (lambda: cron("0 3 * * *", tz="Europe/Pariss"), "Did you mean 'Europe/Paris'"),
        (lambda: cron("0 3 * * *", tz=""), "IANA"),
        (lambda: cron("0 3 * * *", missed="some"), "latest, all, skip"),  # type: ignore[arg-type]
        (lambda: cron("0 3 * * *", missed="all", limit=0), "1 or more"),
        (lambda: every("0.5s"), "at least a second"),
        (lambda: every("soon"), "90s"),
        (lambda: every("1h", anchor=datetime(2026, 1, 1)), "no time zone"),  # noqa: DTZ001 - the mistake
    ],
)
def test_a_clock_that_is_not_understood_is_refused(make: Callable[[], object], hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        make()
