"""Make a version champion, or give the place back: alias and traffic move in one transaction, or neither does."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from tidewheel.lineage.store import Store
from tidewheel.registry.aliases import CHALLENGER, CHAMPION, previous_holder, set_alias_in
from tidewheel.registry.traffic import Traffic, set_traffic


def promote(store: Store, model: str, seq: int, *, by: str, reason: str) -> Traffic:
    """Let a version answer all requests from now on; a trial in progress ends. Raises NotFound."""
    with store.database.transaction() as tx:
        return promote_in(tx, store, model, seq, by=by, reason=reason)


def promote_in(
    tx: Connection, store: Store, model: str, seq: int, *, by: str, reason: str, expected_seq: int | None = None
) -> Traffic:
    """Do what `promote` does in the caller's transaction; `expected_seq` as in `set_traffic`."""
    traffic = set_traffic(tx, store, model, champion=seq, by=by, reason=reason, expected_seq=expected_seq)
    set_alias_in(tx, store, model, CHAMPION, seq, by=by, reason=reason)
    set_alias_in(tx, store, model, CHALLENGER, None, by=by, reason=reason)
    return traffic


def rollback(store: Store, model: str, *, by: str, reason: str) -> Traffic:
    """Give the champion's place back to the version that held it before; raises Conflict when there was none."""
    with store.database.transaction() as tx:
        return promote_in(tx, store, model, previous_holder(tx, model), by=by, reason=reason)
