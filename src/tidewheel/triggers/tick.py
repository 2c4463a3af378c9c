"""One look at schedules: ask their triggers, fire what is due, and do the runs that wait.

Any number of processes may look at once: the state of a schedule is written by compare and swap, in the transaction
that queues its run, and whoever claims a queued run does it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tidewheel.clock import from_micros
from tidewheel.errors import TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.triggers.facts import StoredFacts
from tidewheel.triggers.fire import Due, fire, key_of, past_of, refuse, verdict_of
from tidewheel.triggers.items import Used, use_up
from tidewheel.triggers.policy import refusal, stirred
from tidewheel.triggers.records import Reading
from tidewheel.triggers.schedule import Schedule
from tidewheel.triggers.state import BEGIN, Overtaken, State, declare, save_state
from tidewheel.triggers.webhooks import secret_of
from tidewheel.triggers.work import work

logger = logging.getLogger("tidewheel.triggers")
ATTEMPTS = 20  # looks that others may overtake before this one gives up for now
FIRINGS = 1_000  # most runs of one schedule in one look, when it makes up for what was missed
_WRITTEN_EVERY = timedelta(seconds=30)  # a verdict of the same shape is written again after that
_STIRRED = "debounce"  # its memory: what the cause is, and since when


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What one look at a schedule found and did."""

    name: str  # the schedule
    verdict: str  # fired, refused, quiet, busy or trouble
    reason: str  # in words
    run_id: str = ""  # the run that was queued, when it fired
    tick_id: str = ""  # the tick that was written
    tree: Mapping[str, Any] = field(default_factory=dict)  # each rule, whether it held, and why

    def lines(self) -> list[str]:
        """Return the report as text."""
        run = f" -> run {self.run_id}" if self.run_id else ""
        return [f"{self.name}: {self.verdict}: {self.reason}{run}"]


def tick(
    store: Store, schedules: Sequence[Schedule], *, executor: str = "inline", works: bool = True
) -> list[TickReport]:
    """Look at each schedule until nothing more of it is due, then do the runs that wait; say what was found.

    With `works=False` the runs stay queued for whoever works. What stops one schedule is told in its report and kept as
    its verdict; the others go on.
    """
    found: list[TickReport] = []
    for schedule in schedules:
        found += _exhaust(store, schedule)
    if works:
        work(store, schedules, executor=executor)
    return found


def look(store: Store, schedule: Schedule) -> TickReport:
    """Look at a schedule once; at most one run of it is queued.

    Raises NotFound when the secret of a webhook is not set, and whatever else stops a look.
    """
    for _ in range(ATTEMPTS):
        try:
            return _look(store, schedule)
        except Overtaken:
            continue
    return TickReport(name=schedule.name, verdict="busy", reason="other schedulers were faster")


def _exhaust(store: Store, schedule: Schedule) -> list[TickReport]:
    found: list[TickReport] = []
    while len(found) < FIRINGS:
        try:
            report = look(store, schedule)
        except TidewheelError as error:
            logger.warning("%s: %s", schedule.name, error)
            found.append(_troubled(store, schedule, error))
            break
        if found and report.verdict == "quiet":
            break  # what is left after it has fired says nothing new
        found.append(report)
        if report.verdict != "fired":
            break
    return found


def _look(store: Store, schedule: Schedule) -> TickReport:
    for hook in schedule.hooks:
        secret_of(store, hook.hook, hook.secret)  # a webhook that nobody can call waits for ever
    state = declare(store, schedule.name, "schedule", schedule.describe())
    now = store.clock.now()
    memory = _begun(store, schedule, state)
    used = Used(name=schedule.name, epoch=state.epoch)
    reading = schedule.rule.look(StoredFacts(now=now, store=store, used=used, memory=memory))
    memory = _merged(memory, reading.keep)
    memory.pop(_STIRRED, None)
    if not reading.holds:
        return _settle(store, Due(schedule=schedule, state=state, reading=reading, memory=memory, at=now))
    since = stirred(state.memory.get(_STIRRED), key_of(reading), now)
    with store.database.reading() as tx:
        past = past_of(tx, schedule.name, schedule.policy, now)
    stopped = refusal(schedule.policy, past, since, now)
    if stopped is not None:
        due = Due(schedule=schedule, state=state, reading=reading, memory=memory | {_STIRRED: since}, at=now)
        tick_id = refuse(store, due, stopped, state.verdict)
        return _report(due, "refused", f"{reading.reason}; waits: {stopped.text}", tick_id=tick_id)
    due = Due(schedule=schedule, state=state, reading=reading, memory=_merged(memory, reading.after), at=now)
    fired = fire(store, due)
    if not fired.run_id:
        return _report(due, "quiet", f"{reading.reason}, which has its run already")
    return _report(due, "fired", reading.reason, run_id=fired.run_id, tick_id=fired.tick_id)


def _begun(store: Store, schedule: Schedule, state: State) -> dict[str, Any]:
    """Return the memory; one that was re-armed for an earlier moment first looks as if it were then."""
    memory = dict(state.memory)
    since = memory.pop(BEGIN, None)
    if since is None:
        return memory
    used = Used(name=schedule.name, epoch=state.epoch)
    then = StoredFacts(now=from_micros(since), store=store, used=used, memory=memory)
    return _merged(memory, schedule.rule.look(then).keep)


def _settle(store: Store, due: Due) -> TickReport:
    """Keep what the rules remember, and the newest verdict, where they say something new."""
    before, reading = due.state.verdict, due.reading
    shape = [leaf.holds for leaf in reading.leaves()]
    old = before.get("verdict") != "quiet" or before.get("shape") != shape
    stale = due.at - due.state.at >= _WRITTEN_EVERY and before.get("reason") != reading.reason
    if old or stale or due.memory != due.state.memory or reading.seen:
        verdict = verdict_of("quiet", reading, reading.reason, due.at) | {"shape": shape}
        with store.database.transaction() as tx:
            save_state(tx, due.state, at=due.at, memory=due.memory, verdict=verdict)
            use_up(tx, Used(name=due.schedule.name, epoch=due.state.epoch), reading.seen, due.at)
    return _report(due, "quiet", reading.reason)


def _report(due: Due, verdict: str, reason: str, *, run_id: str = "", tick_id: str = "") -> TickReport:
    return TickReport(
        name=due.schedule.name,
        verdict=verdict,
        reason=reason,
        run_id=run_id,
        tick_id=tick_id,
        tree=due.reading.tree(),
    )


def _troubled(store: Store, schedule: Schedule, error: TidewheelError) -> TickReport:
    """Keep why a schedule cannot be looked at, where it can be written and is new."""
    report = TickReport(name=schedule.name, verdict="trouble", reason=error.what)
    try:
        state = declare(store, schedule.name, "schedule", schedule.describe())
        if state.verdict.get("reason") != error.what:
            reading = Reading(rule=schedule.rule.name, kind="", holds=False, reason=error.what)
            now = store.clock.now()
            verdict = verdict_of("trouble", reading, error.what, now) | {"mend": error.mend}
            with store.database.transaction() as tx:
                save_state(tx, state, at=now, verdict=verdict)
    except TidewheelError as again:
        logger.warning("%s: %s", schedule.name, again)
    return report


def _merged(memory: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(memory) | dict(changes)
    return {name: value for name, value in merged.items() if value is not None}
