"""Write down that a trigger fired or was refused: cursor, tick, run and what it used up in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidewheel.clock import from_micros, micros, new_id
from tidewheel.database.transaction import Transaction
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, ensure_entity, finish_execution, link, start_execution
from tidewheel.pipelines.transitions import RunState
from tidewheel.triggers.items import Used, use_up
from tidewheel.triggers.policy import Past, Policy, Refusal, day_of
from tidewheel.triggers.records import Reading
from tidewheel.triggers.schedule import Schedule
from tidewheel.triggers.state import State, save_state

_OPEN = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING, RunState.LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """What was written down."""

    tick_id: str = ""  # the tick's execution
    run_id: str = ""  # the run that waits; empty when the same cause had one already


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A schedule that is due, at one moment."""

    schedule: Schedule  # what
    state: State  # as read
    reading: Reading  # why
    memory: Mapping[str, Any] = field(default_factory=dict)  # what it remembers once this is written
    at: datetime  # when


def key_of(reading: Reading) -> str:
    """Return the identity of a cause, at most 200 characters: one key, one run, until the schedule is re-armed."""
    key = f"{reading.rule}:{reading.mark}"
    return key if len(key) <= 200 else hashlib.sha256(key.encode()).hexdigest()


def fire(store: Store, due: Due) -> Fired:
    """Let a due schedule fire: advance its cursor and queue its run, or nothing of both.

    Raises Overtaken when another scheduler was first.
    """
    schedule, reading, at = due.schedule, due.reading, due.at
    tick_id, run_id, key = new_id(), new_id(), key_of(reading)
    with store.database.transaction() as tx:
        verdict = verdict_of("fired", reading, reading.reason, at) | {"run": run_id, "tick": tick_id}
        state = save_state(tx, due.state, at=at, memory=due.memory, verdict=verdict)
        used = Used(name=schedule.name, epoch=state.epoch)
        use_up(tx, used, (*reading.seen, *reading.items), at)
        new = tx.run(
            "INSERT INTO trigger_fired (name, epoch, key, at, tick_id, run_id, place, done)"
            " VALUES (:name, :epoch, :key, :at, :tick_id, :run_id, :place, :done) ON CONFLICT DO NOTHING",
            name=schedule.name,
            epoch=state.epoch,
            key=key,
            at=micros(at),
            tick_id=tick_id,
            run_id=run_id,
            place=state.revision,
            done=False,
        )
        if not new:
            return Fired()
        _tick(tx, due, tick_id, "FIRED", {"key": key, "epoch": state.epoch, "run": run_id})
        _queue(tx, due, run_id, tick_id, {"key": key, "epoch": state.epoch})
    return Fired(tick_id=tick_id, run_id=run_id)


def _queue(tx: Transaction, due: Due, run_id: str, tick_id: str, keys: Mapping[str, Any]) -> None:
    cause = {
        "kind": due.reading.kind,
        "trigger": due.schedule.name,
        "rule": due.reading.rule,
        "reason": due.reading.reason,
        **keys,
        "execution_id": tick_id,
        "event": dict(due.reading.numbers),
    }
    ensure_entity(tx, "pipeline", due.schedule.pipeline.name, at=due.at)
    start_execution(
        tx,
        kind="run",
        job=due.schedule.pipeline.name,
        at=due.at,
        state=RunState.QUEUED,
        facets={"cause": cause, "host": "", "home": ""},
        execution_id=run_id,
    )
    link(tx, run_id, "triggered_by", tick_id)
    text = f"{due.schedule.name} fired: {due.reading.reason}"
    body = {"trigger": due.schedule.name, "text": text, "run": run_id, **keys}
    append_event(tx, "trigger.fired", body, at=due.at, subject_id=due.schedule.name, execution_id=run_id)


def refuse(store: Store, due: Due, refused: Refusal, before: Mapping[str, Any]) -> str:
    """Write down that a rule holds a due run back, once for each cause and rule; return the tick's id."""
    reading, at, tick_id = due.reading, due.at, new_id()
    verdict = verdict_of("refused", reading, f"{reading.reason}; waits: {refused.text}", at)
    verdict |= {"key": key_of(reading), "policy": refused.rule}
    known = all(before.get(name) == verdict[name] for name in ("verdict", "key", "policy"))
    if known and due.memory == due.state.memory and not reading.seen:
        return ""
    with store.database.transaction() as tx:
        state = save_state(tx, due.state, at=at, memory=due.memory, verdict=verdict)
        use_up(tx, Used(name=due.schedule.name, epoch=state.epoch), reading.seen, at)
        if known:
            return ""
        _tick(tx, due, tick_id, "REFUSED", {"key": verdict["key"], "epoch": state.epoch, "policy": refused.rule})
        body = {"trigger": due.schedule.name, "text": f"{due.schedule.name} waits: {refused.text}"}
        append_event(tx, "trigger.suppressed", body, at=at, subject_id=due.schedule.name, execution_id=tick_id)
    return tick_id


def _tick(tx: Transaction, due: Due, tick_id: str, state: str, facets: Mapping[str, Any]) -> None:
    start_execution(
        tx,
        kind="tick",
        job=due.schedule.name,
        at=due.at,
        state=state,
        parameters=dict(due.reading.numbers),
        facets={"reason": due.reading.reason, "tree": due.reading.tree(), **facets},
        execution_id=tick_id,
    )
    finish_execution(tx, tick_id, at=due.at, state=state)


def verdict_of(verdict: str, reading: Reading, reason: str, at: datetime) -> dict[str, Any]:
    """Return the outcome of a look, as it is kept beside the state."""
    return {"verdict": verdict, "reason": reason, "at": at.isoformat(), "tree": reading.tree()}


def past_of(tx: Transaction, name: str, policy: Policy, now: datetime) -> Past:
    """Return what a policy asks for about the runs of a schedule so far."""
    last = tx.row("SELECT MAX(at) AS at FROM trigger_fired WHERE name = :name", name=name)
    begin = day_of(policy, now)
    today = tx.row(
        "SELECT COUNT(*) AS runs FROM trigger_fired WHERE name = :name AND at >= :begin", name=name, begin=micros(begin)
    )
    going_on = open_runs(tx, name)
    return Past(
        going_on=going_on[0][0] if going_on else "",
        last=from_micros(last["at"]) if last and last["at"] is not None else None,
        today=int(today["runs"]) if today else 0,
    )


def open_runs(tx: Transaction, name: str) -> list[tuple[str, str]]:
    """Return the runs of a schedule that have not ended, oldest first, with their states."""
    rows = tx.rows(
        "SELECT f.run_id, e.state FROM trigger_fired f JOIN execution e ON e.id = f.run_id"
        " WHERE f.name = :name AND f.done = :done ORDER BY f.place",
        name=name,
        done=False,
    )
    return [(row["run_id"], row["state"]) for row in rows if row["state"] in _OPEN]
