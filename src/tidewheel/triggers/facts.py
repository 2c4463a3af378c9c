"""What the triggers of a schedule are asked with, read from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidewheel.errors import NotFound
from tidewheel.lineage.read import resolve
from tidewheel.lineage.store import Store
from tidewheel.monitoring.alerts import open_alerts
from tidewheel.monitoring.records import Alert
from tidewheel.triggers.items import Used, used_up
from tidewheel.triggers.records import Asked, Growth


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFacts:
    """The context of a schedule."""

    now: datetime  # the present moment, read once a look
    store: Store  # where everything stands
    used: Used  # whose items count as used up
    memory: Mapping[str, Any]  # rule -> what it remembers

    def remembered(self, rule: str) -> Any:
        """Return what a rule remembers."""
        return self.memory.get(rule)

    def used_up(self, rule: str) -> Mapping[str, str]:
        """Return what a rule has used up: name to stamp."""
        with self.store.database.reading() as tx:
            return used_up(tx, self.used, rule)

    def growth(self, data: str) -> Growth | None:
        """Return how far a dataset has come."""
        return stored_growth(self.store, data)

    def open_alerts(self, model: str) -> Sequence[Alert]:
        """Return the open alerts of a model."""
        return open_alerts(self.store, model)

    def requested(self) -> Sequence[Asked]:
        """Return nothing."""
        return ()


def stored_growth(store: Store, data: str) -> Growth | None:
    """Return how far a dataset has come, None when there is none of that name."""
    with store.database.reading() as tx:
        try:
            found = resolve(tx, "dataset", data)
        except NotFound:
            return None
    return Growth(rows=int(found.facets.get("rows") or 0), version=found.id, at=found.at)
