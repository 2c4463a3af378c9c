"""Retrainings that people ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from tidewheel.clock import new_id
from tidewheel.database.transaction import Transaction
from tidewheel.errors import NotFound
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event
from tidewheel.loop.tables import loop_request, loop_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A retraining that was asked for."""

    id: str  # UUIDv7
    model: str  # the loop's model
    at: datetime  # when
    by: str  # who
    reason: str  # why


def request_run(store: Store, model: str, *, by: str = "", reason: str = "") -> Request:
    """Ask for a retraining; the conductor starts it at its next look. Raises NotFound for a loop that never ran."""
    request = Request(id=new_id(), model=model, at=store.clock.now(), by=by, reason=reason)
    with store.database.transaction() as tx:
        known = list(tx.execute(sa.select(loop_state.c.model)).scalars())
        if model not in known:
            raise NotFound("loop", model, known, "Start one with: tidewheel up FILE.py:LOOP")
        tx.execute(
            sa.insert(loop_request).values(
                id=request.id, model=model, at=request.at, actor=by, reason=reason, taken=False
            )
        )
        body = {"model": model, "text": f"a retraining was asked for by {by or 'somebody'}", "reason": reason}
        append_event(tx, "trigger.requested", body, at=request.at, subject_id=request.id, by=by)
    return request


def waiting_requests(tx: Transaction, model: str) -> list[Request]:
    """Return the requests that no retraining has taken yet, oldest first."""
    table = loop_request
    query = sa.select(table).where(table.c.model == model, table.c.taken.is_(False)).order_by(table.c.at, table.c.id)
    return [
        Request(id=row.id, model=row.model, at=row.at, by=row.actor, reason=row.reason) for row in tx.execute(query)
    ]


def take_requests(tx: Transaction, requests: Sequence[Request]) -> None:
    """Mark requests as taken: one retraining answers all that wait."""
    if not requests:
        return
    ids = [request.id for request in requests]
    tx.execute(sa.update(loop_request).where(loop_request.c.id.in_(ids)).values(taken=True))
