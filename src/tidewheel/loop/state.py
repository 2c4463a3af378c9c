"""What a loop remembers between two ticks: one row, changed by compare and swap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tidewheel.errors import Conflict
from tidewheel.lineage.store import Store
from tidewheel.loop.tables import loop_state

KEPT_CAUSES = 200


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """Retraining again after an alarm, when more rows of the new world have come."""

    trigger: str  # drift or decay
    alert: str  # id of the alert that began it
    began: int  # labelled rows at that time
    rung: int = 0  # how many rungs have been climbed


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A retraining that has begun and is not finished."""

    trigger: str  # which trigger fired
    key: str  # identity of the cause: one cause, one retraining
    reason: str  # in words
    host: str  # machine that does it
    since: int  # microseconds since 1970
    dataset: str = ""  # pinned version, name:7


class LoopState(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a loop. Fields are only ever added, with a default."""

    cursor: dict[str, int] = {}  # where the joiner of collected rows stands
    labelled: int = 0  # labelled rows kept in the dataset so far
    seen: int = 0  # labelled rows looked at so far, kept or waiting to be kept
    started: int = 0  # first tick, microseconds since 1970
    last_run: int = 0  # begin of the last retraining, microseconds since 1970; 0 before the first
    rows_at_last_run: int = 0  # rows of the dataset at that time
    labelled_at_last_run: int = 0  # labelled rows at that time
    causes: list[str] = []  # keys of causes that were acted on, newest last
    suppressed: list[str] = []  # keys of causes whose suppression is in the journal, newest last
    cron: dict[str, int] = {}  # schedule -> last due time that was acted on, microseconds since 1970
    day: str = ""  # the day that `today` counts, ISO date in UTC
    today: int = 0  # retrainings begun on that day
    refused_in_row: int = 0  # candidates refused since the last one that passed
    running: Running | None = None  # the retraining in flight
    ladder: Ladder | None = None  # retrainings still to come after an alarm


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A state with the revision it was read at."""

    revision: int  # 0 before it was ever written
    state: LoopState  # as stored


def load_state(tx: Connection, model: str) -> Held:
    """Return the stored state of a loop, or a new one."""
    row = tx.execute(sa.select(loop_state).where(loop_state.c.model == model)).one_or_none()
    if row is None:
        return Held(revision=0, state=LoopState())
    return Held(revision=row.revision, state=msgspec.convert(row.body, LoopState))


def save_state(tx: Connection, model: str, held: Held, state: LoopState, *, store: Store) -> Held:
    """Write the next state if nobody else has; raises Conflict when somebody has, and then nothing of `tx` is kept."""
    body = msgspec.to_builtins(state)
    values = {"revision": held.revision + 1, "at": store.clock.now(), "body": body}
    if held.revision == 0:
        known = tx.execute(sa.select(loop_state.c.revision).where(loop_state.c.model == model)).scalar()
        if known is not None:
            raise _beaten(model)
        tx.execute(sa.insert(loop_state).values(model=model, **values))
    else:
        same = (loop_state.c.model == model) & (loop_state.c.revision == held.revision)
        if tx.execute(sa.update(loop_state).where(same).values(values)).rowcount != 1:
            raise _beaten(model)
    return Held(revision=held.revision + 1, state=state)


def _beaten(model: str) -> Conflict:
    return Conflict(
        f"Another conductor moved the loop of {model} on.", "Nothing is lost: the next tick goes on from there."
    )


def change(store: Store, model: str, held: Held, update: Callable[[LoopState], LoopState]) -> Held:
    """Change the state in a transaction of its own; the same state costs nothing."""
    state = update(held.state)
    if state == held.state:
        return held
    with store.database.transaction() as tx:
        return save_state(tx, model, held, state, store=store)


def remembered(keys: list[str], key: str) -> list[str]:
    """Return the keys with one more, the oldest forgotten."""
    return [*keys, key][-KEPT_CAUSES:]
