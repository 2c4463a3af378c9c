"""Read and write rollout rows; a write counts only if nobody else has written since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Row

from tidewheel.database.transaction import Transaction
from tidewheel.errors import NotFound
from tidewheel.lineage.read import find_entity
from tidewheel.lineage.store import Store
from tidewheel.rollout import tables
from tidewheel.rollout.decide import numbers_of, running_tests
from tidewheel.rollout.evidence import Evidence
from tidewheel.rollout.goal import Subject
from tidewheel.rollout.records import Cursors, Rollout, State, check_transition
from tidewheel.rollout.rollouts import Canary


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A running rollout as it was read, with all that the next look needs."""

    id: str  # of the rollout
    model: str  # name of the model
    state: State  # of the rollout
    step: int  # index into the stages
    traffic: int  # seq of the traffic row it set last
    revision: int  # as read
    started: datetime  # when it began
    by: str  # who or what began it
    reason: str  # what the last look concluded
    config: Canary  # how it goes
    subject: Subject  # who is compared
    evidence: Evidence  # what has been shown
    cursors: Cursors  # how far the log has been read


def running_rollout(tx: Transaction, model: str) -> Held | None:
    """Return the rollout of a model that is running, if any."""
    table = tables.rollout
    row = tx.execute(sa.select(table).where(table.c.model == model, table.c.state == "running")).one_or_none()
    return None if row is None else _held(row)


def get_rollout(store: Store, model: str) -> Rollout | None:
    """Return the newest rollout of a model, running or ended; None when there was none."""
    found = list_rollouts(store, model, limit=1)
    return found[0] if found else None


def list_rollouts(store: Store, model: str, limit: int = 50) -> list[Rollout]:
    """Return the rollouts of a model, newest first; NotFound, with near names, for an unknown model."""
    table = tables.rollout
    query = sa.select(table).where(table.c.model == model).order_by(table.c.started.desc(), table.c.id.desc())
    with store.database.reading() as tx:
        find_entity(tx, "model", model)
        return [_rollout(row) for row in tx.execute(query.limit(limit))]


def insert_rollout(tx: Transaction, held: Held) -> None:
    """Store a rollout that begins."""
    values = {
        "id": held.id,
        "model": held.model,
        "champion": held.subject.champion,
        "candidate": held.subject.candidate,
        "started": held.started,
        "ended": None,
        "actor": held.by,
        "config": msgspec.to_builtins(held.config),
        "subject": msgspec.to_builtins(held.subject),
    }
    tx.execute(sa.insert(tables.rollout).values(**values, **_moving(held)))


def update_rollout(tx: Transaction, before: Held, after: Held, *, ended: datetime | None) -> bool:
    """Store the next state when the row is still as `before` was read; say whether it was stored."""
    check_transition(before.state, after.state)
    table = tables.rollout
    same = (table.c.id == before.id) & (table.c.revision == before.revision) & (table.c.state == "running")
    return tx.execute(sa.update(table).where(same).values(**_moving(after), ended=ended)).rowcount == 1


def require_running(tx: Transaction, model: str) -> Held:
    """Return the running rollout of a model, or raise NotFound."""
    held = running_rollout(tx, model)
    if held is None:
        raise NotFound("running rollout", model, mend="See what was decided with: tidewheel loop status")
    return held


def _moving(held: Held) -> dict[str, Any]:
    return {
        "state": held.state,
        "step": held.step,
        "traffic": held.traffic,
        "revision": held.revision,
        "reason": held.reason,
        "evidence": msgspec.to_builtins(held.evidence, str_keys=True),
        "cursors": msgspec.to_builtins(held.cursors),
    }


def _held(row: Row[Any]) -> Held:
    return Held(
        id=row.id,
        model=row.model,
        state=row.state,
        step=row.step,
        traffic=row.traffic,
        revision=row.revision,
        started=row.started,
        by=row.actor,
        reason=row.reason,
        config=msgspec.convert(row.config, Canary, strict=False),
        subject=msgspec.convert(row.subject, Subject, strict=False),
        evidence=msgspec.convert(row.evidence, Evidence, strict=False),
        cursors=msgspec.convert(row.cursors, Cursors),
    )


def _rollout(row: Row[Any]) -> Rollout:
    held = _held(row)
    return Rollout(
        id=held.id,
        model=held.model,
        state=held.state,
        champion=held.subject.champion,
        candidate=held.subject.candidate,
        step=held.step,
        started=held.started,
        ended=row.ended,
        by=held.by,
        reason=held.reason,
        config=held.config,
        requests=held.evidence.requests,
        scored=held.evidence.scored,
        tests=tuple(running_tests(held.evidence, held.config, held.subject)),
        numbers=numbers_of(held.evidence, held.config, held.subject, step=held.step),
    )
