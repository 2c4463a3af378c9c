"""Every decision of a loop is an event with its numbers and one readable line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, ensure_entity

BY = "loop"


def decide(
    tx: Connection,
    store: Store,
    model: str,
    kind: str,
    text: str,
    *,
    numbers: Mapping[str, Any] | None = None,
    execution_id: str = "",
    governs: bool = False,
) -> None:
    """Append a decision to the journal, about the model, in the caller's transaction."""
    entity = ensure_entity(tx, "model", model, at=store.clock.now())
    append_event(
        tx,
        kind,
        {"model": model, "text": text, **dict(numbers or {})},
        at=store.clock.now(),
        subject_id=entity.id,
        execution_id=execution_id,
        by=BY,
        governs=governs,
    )


def say(store: Store, model: str, kind: str, text: str, **numbers: Any) -> None:
    """Append a decision in a transaction of its own."""
    with store.database.transaction() as tx:
        decide(tx, store, model, kind, text, numbers=numbers)
