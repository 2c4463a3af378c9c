"""Tables of triggers: what is stored goes in, causes come out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from cronsim import CronSim

from tidewheel.clock import micros
from tidewheel.errors import InvalidInput
from tidewheel.loop import triggers
from tidewheel.loop.causes import armed, begun, due_causes
from tidewheel.loop.requests import Request
from tidewheel.loop.state import Ladder, LoopState, Running
from tidewheel.loop.triggers import Cause, Context
from tidewheel.monitoring.records import Alert

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
PARIS = "Europe/Paris"


def context(**changes: Any) -> Context:
    """Return a context in which nothing is due."""
    settings: dict[str, Any] = {"now": NOON, "state": LoopState(), "version": "d1", "rows": 100, "labelled": 0}
    return Context(**(settings | changes))


def alert(kind: str = "drift", key: str = "a1") -> Alert:
    """Return an open alert."""
    return Alert(
        id=key,
        model="apples",
        kind=kind,  # type: ignore[arg-type]
        state="open",
        version=1,
        opened=NOON,
        closed=None,
        reason=f"{kind} was seen",
        evidence={"psi": 0.4},
        ending=None,
    )


def running(key: str = "manual:1", trigger: str = "manual") -> Running:
    """Return a retraining that begins."""
    return Running(trigger=trigger, key=key, reason="", owner="here", since=micros(NOON), dataset="orchard:1")


def begin(found: Context, causes: list[Cause]) -> LoopState:
    """Return the state once a retraining has begun for these causes."""
    return begun(found.state, found, causes, running(causes[0].key, causes[0].trigger), rows=found.rows)


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/15 * * * *", "0 * * * *", "*/30 2 * * *", "15 2,3 * * 6,0"])
@pytest.mark.parametrize("begin_at", [datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)])
def test_cron_fires_each_due_time_once_across_daylight_saving(expression: str, begin_at: datetime) -> None:
    end, rule = begin_at + timedelta(days=2), triggers.cron(expression, tz=PARIS)
    expected = []
    for due in CronSim(expression, (begin_at - timedelta(seconds=1)).astimezone(ZoneInfo(PARIS))):
        if due.astimezone(UTC) > end:
            break
        expected.append(due.astimezone(UTC))
    state = LoopState(acted={rule.name: str(micros(begin_at) - 1)})
    fired, now = [], begin_at
    while now <= end:
        found = context(now=now, state=state)
        cause = rule.due(found)
        if cause is not None:
            fired.append(now)
            state = msgspec.structs.replace(begin(found, [cause]), running=None)
        now += timedelta(minutes=1)
    assert fired == list(dict.fromkeys(expected))


def test_cron_in_the_gap_of_spring_is_due_right_after_it() -> None:
    rule = triggers.cron("30 2 * * *", tz=PARIS)
    after = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)  # 03:00 in Paris, which comes right after 01:59
    assert rule.latest(after) == after
    assert rule.latest(after - timedelta(seconds=1)) == datetime(2026, 3, 28, 1, 30, tzinfo=UTC)


def test_missed_times_are_made_up_for_once() -> None:
    rule = triggers.cron("0 3 * * *")
    found = context(state=LoopState(acted={rule.name: str(micros(NOON - timedelta(days=5)))}))
    cause = rule.due(found)
    assert cause is not None
    assert cause.reason == "scheduled for 2026-06-01 03:00 UTC"
    assert rule.due(context(state=begin(found, [cause]))) is None
    tomorrow = rule.due(context(state=begin(found, [cause]), now=NOON + timedelta(days=1)))
    assert tomorrow is not None
    assert tomorrow.key != cause.key


def test_a_schedule_counts_from_the_first_look_that_knows_it(orchard: ModuleType) -> None:
    rule = triggers.cron("0 3 * * *")
    loop = orchard.make_loop(on=[rule])
    assert rule.due(context()) is None
    state = LoopState(acted=armed(loop, LoopState(), micros(NOON)))
    assert rule.due(context(state=state)) is None
    assert rule.due(context(state=state, now=NOON + timedelta(hours=16))) is not None
    assert armed(loop, state, micros(NOON) + 1) == state.acted


@pytest.mark.parametrize(
    ("expression", "tz", "hint"),
    [
        ("0 3 * *", "UTC", "five fields"),
        ("0 0 3 * * *", "UTC", "five fields"),
        ("0 25 * * *", "UTC", "five fields"),
        ("0 3 * * *", "Europe/Pariss", "IANA"),
    ],
)
def test_a_schedule_that_is_not_understood_is_refused(expression: str, tz: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        triggers.cron(expression, tz=tz)


@pytest.mark.parametrize(
    "make",
    [
        lambda: triggers.new_data(0),
        lambda: triggers.drift(psi=0.0),
        lambda: triggers.drift(windows=0),
        lambda: triggers.decay("accuracy", worse_by=0.0),
    ],
)
def test_a_trigger_that_is_always_due_is_refused(make: Any) -> None:
    with pytest.raises(InvalidInput, match="always due"):
        make()


@pytest.mark.parametrize(("rows", "before", "fires"), [(149, 50, False), (150, 50, True), (100, 0, True)])
def test_new_data_counts_rows_since_the_last_retraining(rows: int, before: int, *, fires: bool) -> None:
    found = context(rows=rows, state=LoopState(rows_at_last_run=before))
    cause = triggers.new_data(100).due(found)
    assert (cause is not None) == fires
    if cause is not None:
        assert triggers.new_data(100).due(context(rows=rows, state=begin(found, [cause]))) is None


def test_an_alert_fires_once_and_the_next_one_again() -> None:
    rule = triggers.drift()
    found = context(alerts=[alert("decay", "a0"), alert()])
    cause = rule.due(found)
    assert cause is not None
    assert (cause.key, cause.reason) == ("drift:a1", "drift was seen")
    state = begin(found, [cause])
    assert rule.due(context(alerts=[alert()], state=state)) is None
    assert rule.due(context(alerts=[alert(key="a2")], state=state)) is not None


def test_people_are_answered_in_their_order_whatever_is_declared(orchard: ModuleType) -> None:
    asked = [Request(id=f"r{number}", model="apples", at=NOON, by="ann", reason="new kind") for number in (1, 2)]
    (cause,) = due_causes(orchard.make_loop(), context(requests=asked))
    assert (cause.key, cause.reason) == ("manual:r1", "ann asked for it: new kind")


def test_without_a_model_every_version_of_the_data_is_tried_once(orchard: ModuleType) -> None:
    found = context(deployed=False)
    (cause,) = due_causes(orchard.make_loop(), found)
    assert cause.trigger == "first"
    state = begin(found, [cause])
    assert due_causes(orchard.make_loop(), context(deployed=False, state=state)) == []
    (again,) = due_causes(orchard.make_loop(), context(deployed=False, state=state, version="d2"))
    assert again.key != cause.key
    assert due_causes(orchard.make_loop(), context(state=state, version="d2")) == []


def test_one_retraining_answers_all_causes_that_are_due(orchard: ModuleType) -> None:
    loop = orchard.make_loop(on=[triggers.drift(), triggers.drift(psi=0.4), triggers.decay("accuracy")])
    found = context(alerts=[alert(), alert("decay", "a2")])
    causes = due_causes(loop, found)
    assert [cause.key for cause in causes] == ["drift:a1", "decay:a2"]
    assert due_causes(loop, context(alerts=found.alerts, state=begin(found, causes))) == []


@pytest.mark.parametrize(
    ("labelled", "climbed", "rung"),
    [(139, 0, None), (140, 0, 1), (180, 1, 2), (500, 0, 3), (500, 3, None), (179, 1, None)],
)
def test_the_ladder_retrains_at_each_rung_once(
    orchard: ModuleType, labelled: int, climbed: int, rung: int | None
) -> None:
    loop = orchard.make_loop(ladder=(40, 80, 160))
    found = context(
        labelled=labelled, state=LoopState(ladder=Ladder(trigger="drift", alert="a1", began=100, rung=climbed))
    )
    causes = due_causes(loop, found)
    assert [cause.numbers["rung"] for cause in causes] == ([rung] if rung else [])
    if causes:
        state = begin(found, causes)
        assert state.ladder is not None
        assert (state.ladder.began, state.ladder.rung) == (100, rung)
        assert due_causes(loop, context(labelled=labelled, state=state)) == []


def test_a_new_alert_begins_the_ladder_anew(orchard: ModuleType) -> None:
    loop = orchard.make_loop(on=[triggers.drift()], ladder=(40,))
    old = LoopState(ladder=Ladder(trigger="drift", alert="a0", began=0, rung=0), acted={"drift": "a0"})
    found = context(labelled=70, state=old, alerts=[alert()])
    state = begin(found, due_causes(loop, found))
    assert state.ladder == Ladder(trigger="drift", alert="a1", began=70)
    assert due_causes(loop, context(labelled=109, state=state, alerts=[alert()])) == []
    assert due_causes(loop, context(labelled=110, state=state, alerts=[alert()])) != []


def test_the_day_counts_its_retrainings() -> None:
    first = begin(context(), [Cause(trigger="manual", rule="manual", mark="1", reason="")])
    second = begin(context(state=first), [Cause(trigger="manual", rule="manual", mark="2", reason="")])
    next_day = begin(
        context(state=second, now=NOON + timedelta(days=1)),
        [Cause(trigger="manual", rule="manual", mark="3", reason="")],
    )
    assert [state.today for state in (first, second, next_day)] == [1, 2, 1]
