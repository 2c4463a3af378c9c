"""Calls that came in for a webhook: kept until every trigger that waits for them has taken them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tidewheel.clock import from_micros, micros
from tidewheel.database.transaction import Transaction

RETENTION = timedelta(days=30)  # how long a delivery is kept, so that a second one with its id is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A call that was let in."""

    id: str  # as its sender named it; the same id is let in once
    at: datetime  # when it came
    body: str  # as it came


def keep_delivery(tx: Transaction, hook: str, delivery: Delivery) -> bool:
    """Keep a delivery and forget those that are too old; return whether it is new."""
    tx.run(
        "DELETE FROM trigger_delivery WHERE hook = :hook AND at < :oldest",
        hook=hook,
        oldest=micros(delivery.at - RETENTION),
    )
    written = tx.run(
        "INSERT INTO trigger_delivery (hook, id, at, body) VALUES (:hook, :id, :at, :body) ON CONFLICT DO NOTHING",
        hook=hook,
        id=delivery.id,
        at=micros(delivery.at),
        body=delivery.body,
    )
    return written == 1


def deliveries_since(tx: Transaction, hook: str, moment: datetime) -> list[Delivery]:
    """Return the deliveries that came at a moment or later, in their order."""
    rows = tx.rows(
        "SELECT id, at, body FROM trigger_delivery WHERE hook = :hook AND at >= :moment ORDER BY seq",
        hook=hook,
        moment=micros(moment),
    )
    return [Delivery(id=row["id"], at=from_micros(row["at"]), body=row["body"]) for row in rows]


def last_delivery(tx: Transaction, hook: str) -> Delivery | None:
    """Return the newest delivery, None before the first."""
    row = tx.row("SELECT id, at, body FROM trigger_delivery WHERE hook = :hook ORDER BY seq DESC LIMIT 1", hook=hook)
    return None if row is None else Delivery(id=row["id"], at=from_micros(row["at"]), body=row["body"])
