"""What a schedule remembers between two looks: one row, changed by compare and swap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tidewheel.clock import from_micros, micros
from tidewheel.database.transaction import Transaction
from tidewheel.database.values import from_json, to_json
from tidewheel.errors import Conflict, NotFound
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event

BEGIN = "counts from"  # in the memory of a schedule that was re-armed for an earlier moment


class Overtaken(Conflict):
    """Another scheduler wrote since the state was read; nothing of the transaction is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A schedule's row, or that of a loop's declaration."""

    name: str  # of the schedule, or loop:MODEL
    kind: str  # schedule or loop
    revision: int  # grows with every write; 0 before the first
    epoch: int  # grows when it is re-armed
    at: datetime  # last change
    declaration: Mapping[str, Any]  # as it was last declared
    memory: Mapping[str, Any] = field(default_factory=dict)  # rule -> what it remembers
    verdict: Mapping[str, Any] = field(default_factory=dict)  # of the newest look that said something new


def load_state(tx: Transaction, name: str) -> State | None:
    """Return the state of a schedule, None before its first look."""
    row = tx.row("SELECT * FROM trigger_state WHERE name = :name", name=name)
    return None if row is None else _state_of(row)


def list_states(tx: Transaction) -> list[State]:
    """Return the states of all schedules and the declarations of all loops, by name."""
    return [_state_of(row) for row in tx.rows("SELECT * FROM trigger_state ORDER BY name")]


def save_state(tx: Transaction, state: State, **changes: Any) -> State:
    """Write the next state if nobody else has; raises Overtaken when somebody has."""
    changed = replace(state, revision=state.revision + 1, **changes)
    values = {
        "name": changed.name,
        "revision": changed.revision,
        "epoch": changed.epoch,
        "at": micros(changed.at),
        "declaration": to_json(changed.declaration),
        "memory": to_json(changed.memory),
        "verdict": to_json(changed.verdict),
    }
    if state.revision:
        written = tx.run(
            "UPDATE trigger_state SET revision = :revision, epoch = :epoch, at = :at, declaration = :declaration,"
            " memory = :memory, verdict = :verdict WHERE name = :name AND revision = :before",
            before=state.revision,
            **values,
        )
    else:
        written = tx.run(
            "INSERT INTO trigger_state (name, kind, revision, epoch, at, declaration, memory, verdict)"
            " VALUES (:name, :kind, :revision, :epoch, :at, :declaration, :memory, :verdict) ON CONFLICT DO NOTHING",
            kind=changed.kind,
            **values,
        )
    if written != 1:
        raise Overtaken(f"Another scheduler moved {state.name} on.", "Nothing is lost: the next look begins there.")
    return changed


def declare(store: Store, name: str, kind: str, declaration: Mapping[str, Any]) -> State:
    """Keep what is declared under a name, where it is new or has changed; return the state."""
    with store.database.reading() as tx:
        state = load_state(tx, name)
    if state is not None and state.declaration == declaration:
        return state
    now = store.clock.now()
    fresh = state or State(name=name, kind=kind, revision=0, epoch=1, at=now, declaration=declaration)
    with store.database.transaction() as tx:
        return save_state(tx, fresh, at=now, declaration=declaration)


def declared_hooks(store: Store) -> dict[str, str]:
    """Return the webhooks of all schedules and loops, with the names of their secrets."""
    with store.database.reading() as tx:
        found = [state.declaration.get("hooks", {}) for state in list_states(tx)]
    return {name: secret for hooks in found for name, secret in hooks.items()}


def rearm(store: Store, name: str, *, since: datetime | None = None, by: str = "") -> State:
    """Let a schedule begin anew: it forgets what it acted on, and no key that it used blocks it.

    It counts from now on, or from `since`, so that due times and deliveries after that moment count again.

    Raises NotFound, with near names, for an unknown schedule.
    """
    with store.database.transaction() as tx:
        known = {state.name: state for state in list_states(tx) if state.kind == "schedule"}
        if name not in known:
            raise NotFound("schedule", name, known, "List them with: tidewheel triggers")
        now, state = store.clock.now(), known[name]
        memory = {} if since is None else {BEGIN: micros(since)}
        body = {"trigger": name, "epoch": state.epoch + 1, "since": since.isoformat() if since else None}
        append_event(tx, "trigger.rearmed", body, at=now, subject_id=name, by=by)
        return save_state(tx, state, at=now, epoch=state.epoch + 1, memory=memory, verdict={})


def forget(store: Store, name: str, *, by: str = "") -> None:
    """Take a declaration out of the list and close its webhooks; declared again, it goes on where it was.

    Raises NotFound, with near names, for an unknown one.
    """
    with store.database.transaction() as tx:
        known = {state.name: state for state in list_states(tx) if state.declaration}
        if name not in known:
            raise NotFound("schedule", name, known, "List them with: tidewheel triggers")
        now = store.clock.now()
        append_event(tx, "trigger.forgotten", {"trigger": name}, at=now, subject_id=name, by=by)
        save_state(tx, known[name], at=now, declaration={}, verdict={})


def _state_of(row: Mapping[str, Any]) -> State:
    read = {name: from_json(row[name]) for name in ("declaration", "memory", "verdict")}
    plain = {name: row[name] for name in ("name", "kind", "revision", "epoch")}
    return State(**plain, **read, at=from_micros(row["at"]))
