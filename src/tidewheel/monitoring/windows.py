"""Windows as they are stored."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Row

from tidewheel.lineage.store import Store
from tidewheel.monitoring import tables
from tidewheel.monitoring.records import Performance, Traffic, Window, WindowKind


def list_windows(store: Store, model: str, limit: int = 50, *, kind: WindowKind | None = None) -> list[Window]:
    """Return the newest windows of a model, newest first; of one kind or of both."""
    table = tables.window
    query = sa.select(table).where(table.c.model == model)
    if kind is not None:
        query = query.where(table.c.kind == kind)
    order = (table.c.at.desc(), table.c.end.desc(), table.c.number.desc())
    with store.database.reading() as tx:
        return [_window_of(row) for row in tx.execute(query.order_by(*order).limit(limit))]


def _window_of(row: Row[Any]) -> Window:
    """Turn a row into its record."""
    values = dict(row._mapping)
    body = values.pop("body")
    if row.kind == "traffic":
        return Window(**values, traffic=msgspec.convert(body, Traffic, strict=False))
    return Window(**values, performance=msgspec.convert(body, Performance, strict=False))
