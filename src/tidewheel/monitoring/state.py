"""Where the monitor of one model stands, kept as one row between two looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from tidewheel.database.insert import insert_if_new
from tidewheel.database.transaction import Transaction
from tidewheel.monitoring import tables
from tidewheel.monitoring.collect import OpenLabels, OpenTraffic
from tidewheel.monitoring.decay import DecayWatch
from tidewheel.monitoring.signals import Streak


class MonitorState(msgspec.Struct, frozen=True, kw_only=True):
    """Cursors, open windows and evidence; a champion's change begins all but the cursors anew."""

    champion: int  # version (seq) that is compared with
    decay: DecayWatch  # evidence for a decay of its risk
    log: dict[str, int] = {}  # cursor of the prediction log
    labels: dict[str, int] = {}  # cursor of the joined labels
    traffic: OpenTraffic = OpenTraffic()  # the traffic window that is filling
    labelled: OpenLabels = OpenLabels()  # the labels window that is filling
    recent: OpenLabels = OpenLabels()  # the labels window that was closed last
    streaks: dict[str, Streak] = {}  # by alert kind
    traffic_windows: int = 0  # closed so far, over all champions
    label_windows: int = 0  # closed so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A state as it was read."""

    state: MonitorState | None  # None before the first observation
    revision: int  # 0 before the first observation


def load_state(tx: Transaction, model: str) -> Stored:
    """Return where the monitor of a model stands."""
    row = tx.execute(sa.select(tables.cursor).where(tables.cursor.c.model == model)).one_or_none()
    if row is None:
        return Stored(state=None, revision=0)
    return Stored(state=msgspec.convert(row.state, MonitorState, strict=False), revision=row.revision)


def save_state(tx: Transaction, model: str, state: MonitorState, *, revision: int, at: datetime) -> bool:
    """Store the next state when nobody else has stored one since `revision` was read; say whether it was stored."""
    table = tables.cursor
    values: dict[str, Any] = {"revision": revision + 1, "at": at, "state": msgspec.to_builtins(state, str_keys=True)}
    if revision:
        unchanged = (table.c.model == model) & (table.c.revision == revision)
        return tx.execute(sa.update(table).where(unchanged).values(values)).rowcount == 1
    first = insert_if_new(table, tx.dialect).values(model=model, **values).returning(table.c.revision)
    return tx.execute(first).scalar() is not None
