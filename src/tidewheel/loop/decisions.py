"""Every decision of a loop is an event with its numbers and one readable line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidewheel.database.transaction import Transaction
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, ensure_entity

BY = "loop"


def decide(
    tx: Transaction,
    store: Store,
    model: str,
    kind: str,
    text: str,
    *,
    numbers: Mapping[str, Any] | None = None,
    execution_id: str = "",
) -> None:
    """Append a decision to the journal, about the model, in the caller's transaction."""
    now = store.clock.now()
    entity = ensure_entity(tx, "model", model, at=now)
    body = {"model": model, "text": text, **dict(numbers or {})}
    append_event(tx, kind, body, at=now, subject_id=entity.id, execution_id=execution_id, by=BY)
