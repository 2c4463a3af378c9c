"""Alerts as they are stored: what is wrong now, and what was."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from tidewheel.lineage.store import Store
from tidewheel.monitoring import tables
from tidewheel.monitoring.records import Alert


def open_alerts(store: Store, model: str) -> list[Alert]:
    """Return the alerts of a model that are open, oldest first."""
    table = tables.alert
    query = sa.select(table).where(table.c.model == model, table.c.state == "open")
    with store.database.reading() as tx:
        return [_alert_of(row) for row in tx.execute(query.order_by(table.c.opened, table.c.id))]


def list_alerts(store: Store, model: str, limit: int = 50) -> list[Alert]:
    """Return the newest alerts of a model, open or closed, newest first."""
    table = tables.alert
    query = sa.select(table).where(table.c.model == model).order_by(table.c.opened.desc(), table.c.id.desc())
    with store.database.reading() as tx:
        return [_alert_of(row) for row in tx.execute(query.limit(limit))]


def _alert_of(row: Row[Any]) -> Alert:
    return Alert(**row._mapping)
