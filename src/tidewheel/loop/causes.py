"""Which retrainings are due now, and what the loop remembers once one of them begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tidewheel.clock import micros
from tidewheel.loop.loop import Loop
from tidewheel.loop.state import Ladder, LoopState, Running
from tidewheel.loop.triggers import ALARMS, Cause, Context, Manual
from tidewheel.triggers.clockwork import clocks
from tidewheel.triggers.records import Item, Rule, leaves

LOOP = "loop"  # its mark is the first tick that could look


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the triggers of a loop answered at one look."""

    causes: list[Cause]  # that are due, the leading one first
    keep: Mapping[str, Any] = field(default_factory=dict)  # what rules remember from now on, acted on or not
    seen: tuple[Item, ...] = ()  # what is used up from now on


def ask(loop: Loop, context: Context) -> Asked:
    """Ask every trigger once; one retraining answers all causes that are due.

    People lead: what they ask for is held back by less than what a rule asks for.
    """
    found: list[Cause | None] = [Manual().due(context), _first(context)]
    keep: dict[str, Any] = {}
    seen: list[Item] = []
    for trigger in loop.on:
        if isinstance(trigger, Manual):
            continue
        if not isinstance(trigger, Rule):
            found.append(trigger.due(context))
            continue
        reading = trigger.look(context)
        found.append(reading.cause() if reading.holds else None)
        keep |= reading.keep
        seen += reading.seen
    found.append(_rung(context, loop.ladder))
    causes = {cause.key: cause for cause in found if cause is not None}
    return Asked(causes=list(causes.values()), keep=keep, seen=tuple(seen))


def due_causes(loop: Loop, context: Context) -> list[Cause]:
    """Return every cause that is due, the leading one first."""
    return ask(loop, context).causes


def armed(loop: Loop, state: LoopState, now: int) -> dict[str, str]:
    """Return the marks with one for the loop and every schedule seen for the first time: it counts from now on."""
    rules = (leaf for trigger in loop.on for leaf in leaves(trigger))
    names = [LOOP, *(clock.name for clock in clocks(rules))]
    return {name: str(now) for name in names} | state.acted


def remembering(state: LoopState, changes: Mapping[str, Any]) -> LoopState:
    """Return the state with what rules remember; marks stand with the marks, None forgets."""
    marks = {name: value for name, value in changes.items() if isinstance(value, str)}
    rest = {name: value for name, value in (state.memory | dict(changes)).items() if name not in marks}
    kept = {name: value for name, value in rest.items() if value is not None}
    return msgspec.structs.replace(state, acted=state.acted | marks, memory=kept)


def begun(
    state: LoopState,
    context: Context,
    causes: Sequence[Cause],
    running: Running,
    *,
    rows: int,
    ladder_on: Sequence[str] = ALARMS,
) -> LoopState:
    """Return the state once a retraining has begun that answers these causes.

    `rows` are those of the dataset, `ladder_on` the alarms that begin a ladder.
    """
    today = context.now.date().isoformat()
    after = {name: kept for cause in causes for name, kept in cause.after.items()}
    marks = {cause.rule: cause.mark for cause in causes if cause.rule not in after}
    return msgspec.structs.replace(
        remembering(state, marks | after),
        running=running,
        waiting=None,
        seen=context.labelled,
        settled=False,
        last_run=micros(context.now),
        rows_at_last_run=rows,
        labelled_at_last_run=context.labelled,
        day=today,
        today=state.today + 1 if state.day == today else 1,
        fruitless=0 if running.trigger == "manual" else state.fruitless,
        ladder=_ladder(state, context, causes, ladder_on),
        spoiled=state.spoiled or running.spoiled,
        trouble="",
    )


def _first(context: Context) -> Cause | None:
    """Nothing answers yet: try once with every version of the dataset, until something does."""
    if context.deployed or context.state.acted.get("first") == context.version:
        return None
    again = ", and the data has changed since the last attempt" if "first" in context.state.acted else ""
    return Cause(trigger="first", rule="first", mark=context.version, reason=f"nothing is deployed yet{again}")


def _rung(context: Context, rungs: Sequence[int]) -> Cause | None:
    """Return the highest rung of the ladder that enough labelled rows have come for since its alarm."""
    ladder = context.state.ladder
    if ladder is None:
        return None
    grown = context.labelled - ladder.began
    reached = sum(grown >= rung for rung in rungs)
    if reached <= ladder.rung:
        return None
    return Cause(
        trigger=ladder.trigger,
        rule="ladder",
        mark=f"{ladder.alert}:{reached}",
        reason=f"again with {grown:,} rows since the alarm of {ladder.trigger}",
        numbers={"rows_since_alarm": grown, "rung": reached, "rungs": list(rungs)},
    )


def _ladder(state: LoopState, context: Context, causes: Sequence[Cause], ladder_on: Sequence[str]) -> Ladder | None:
    alarm = next((cause for cause in causes if cause.rule in ladder_on), None)
    if alarm is not None:
        return Ladder(trigger=alarm.trigger, alert=alarm.mark, began=context.labelled)
    rung = next((cause for cause in causes if cause.rule == "ladder"), None)
    if rung is None or state.ladder is None:
        return state.ladder
    return msgspec.structs.replace(state.ladder, rung=int(rung.numbers["rung"]))
