"""What a loop remembers between two ticks: one row, changed by compare and swap."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from tidewheel.database.insert import insert_if_new
from tidewheel.database.transaction import Transaction
from tidewheel.errors import Conflict
from tidewheel.lineage.store import Store
from tidewheel.loop.tables import loop_state


class Overtaken(Conflict):
    """Another conductor moved the loop on since its state was read; nothing of the transaction is kept."""


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """Retraining again after an alarm, when more rows of the new world have come."""

    trigger: str  # drift or decay
    alert: str  # id of the alert that began it
    began: int  # labelled rows at that time
    rung: int = 0  # how many rungs have been climbed


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates said of the candidate of a retraining in flight."""

    passed: bool  # whether it may be registered
    reason: str  # in words
    run: str  # the run that made it
    metrics: dict[str, float]  # what it scored on the held-out rows


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A retraining that has begun and is not finished, and how far it has come."""

    trigger: str  # which kind of trigger fired
    key: str  # identity of the cause: one cause, one retraining
    reason: str  # in words
    owner: str  # machine and home of the process that does it; see `owner_of`
    since: int  # begin, or takeover from a process that is gone; microseconds since 1970
    dataset: str  # pinned version, name:7
    unseen: int | None = None  # rows of it that the champion was not fitted on; None: all may be judged on
    spoiled: bool = False  # whether its candidate learns from shuffled labels: a game day
    attempts: int = 1  # processes that worked on it
    judged: Judged | None = None  # once the gates have judged
    version: int | None = None  # once a version is registered


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A due retraining that a rule holds back."""

    cause: str  # the rule that found its cause
    rule: str  # one_at_a_time, gave_up, cooldown, cooldown_rows or budget
    text: str  # in words, with the numbers when it began to wait


class LoopState(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a loop. Fields are only ever added, with a default."""

    cursor: dict[str, int] = {}  # where the joiner of collected rows stands
    labelled: int = 0  # labelled rows behind the cursor
    seen: int = 0  # labelled rows that triggers were asked about, waiting to be kept or not
    settled: bool = False  # whether triggers were asked since the last change, and nothing was left to do
    acted: dict[str, str] = {}  # rule -> mark of its last cause that was acted on
    memory: dict[str, Any] = {}  # rule -> what it remembers besides
    last_run: int = 0  # begin of the last retraining, microseconds since 1970; 0 before the first
    rows_at_last_run: int = 0  # rows of the dataset at that time
    labelled_at_last_run: int = 0  # labelled rows at that time
    day: str = ""  # the day that `today` counts, ISO date in UTC
    today: int = 0  # retrainings begun on that day
    fruitless: int = 0  # retrainings refused or failed in a row, since the last that passed or was asked for
    running: Running | None = None  # the retraining in flight
    waiting: Waiting | None = None  # the retraining that is held back
    ladder: Ladder | None = None  # retrainings still to come after an alarm
    spoiled: bool = False  # whether a game day has spoiled a retraining
    trouble: str = ""  # why the loop cannot look at all; empty when it can


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A state with the revision it was read at."""

    revision: int  # 0 before it was ever written
    state: LoopState  # as stored


def load_state(tx: Transaction, model: str) -> Held:
    """Return the stored state of a loop, or a new one."""
    columns = loop_state.c.revision, loop_state.c.body
    row = tx.execute(sa.select(*columns).where(loop_state.c.model == model)).one_or_none()
    if row is None:
        return Held(revision=0, state=LoopState())
    return Held(revision=row.revision, state=msgspec.convert(row.body, LoopState))


def save_state(tx: Transaction, model: str, held: Held, state: LoopState, *, store: Store) -> Held:
    """Write the next state if nobody else has; raises Overtaken when somebody has, and then nothing of `tx` is kept."""
    values = {"revision": held.revision + 1, "at": store.clock.now(), "body": msgspec.to_builtins(state)}
    if held.revision:
        same = (loop_state.c.model == model) & (loop_state.c.revision == held.revision)
        written = tx.execute(sa.update(loop_state).where(same).values(values)).rowcount == 1
    else:
        first = insert_if_new(loop_state, tx.dialect).values(model=model, **values)
        written = tx.execute(first.returning(loop_state.c.revision)).scalar() is not None
    if not written:
        raise Overtaken(
            f"Another conductor moved the loop of {model} on.", "Nothing is lost: the next tick goes on from there."
        )
    return Held(revision=held.revision + 1, state=state)


@dataclass(slots=True)
class Claim:
    """The state that a tick was read from: whatever is written through it is written on top of that state alone.

    This is the fence of the room: a process that lost its place, however slow it was, cannot write any more.
    """

    store: Store  # where everything is kept
    model: str  # the loop's model
    held: Held  # as read, or as last written
    _next: Held = field(init=False)  # as it will be once the transaction at hand commits

    @property
    def state(self) -> LoopState:
        """The state as it stands."""
        return self.held.state

    @contextmanager
    def moving(self, **changes: Any) -> Iterator[Transaction]:
        """Open a transaction that changes the state together with whatever the block writes.

        Raises Overtaken at the start when another process has changed it since.
        """
        state = msgspec.structs.replace(self.state, **changes)
        with self.store.database.transaction() as tx:
            self._next = save_state(tx, self.model, self.held, state, store=self.store)
            yield tx
        self.held = self._next

    def add(self, tx: Transaction, **changes: Any) -> None:
        """Change more of the state within the block of `moving`, once the block knows what."""
        state = msgspec.structs.replace(self._next.state, **changes)
        self._next = save_state(tx, self.model, self._next, state, store=self.store)

    def move(self, **changes: Any) -> None:
        """Change the state; the same state is not written."""
        if msgspec.structs.replace(self.state, **changes) != self.state:
            with self.moving(**changes):
                pass


def owner_of(home: Path) -> str:
    """Return who works here: processes of one machine and one home exclude each other by a file lock."""
    return f"{socket.gethostname()}:{home.resolve()}"
