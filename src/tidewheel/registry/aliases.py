"""Aliases of a model's versions, with their whole history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from tidewheel.errors import Conflict
from tidewheel.lineage import read
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import move_alias

CHAMPION = "champion"
CHALLENGER = "challenger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One version holding one alias for a time."""

    name: str  # of the alias
    seq: int | None  # number of the version; None: the alias was taken away
    valid_from: datetime  # begin
    valid_to: datetime | None  # end, None while it holds
    by: str  # who moved it
    reason: str  # why


def set_alias(store: Store, name: str, alias: str, seq: int | None, *, by: str, reason: str) -> None:
    """Point an alias to a version of a model from now on; None takes it away. Raises NotFound."""
    with store.database.transaction() as tx:
        set_alias_in(tx, store, name, alias, seq, by=by, reason=reason)


def set_alias_in(tx: Connection, store: Store, name: str, alias: str, seq: int | None, *, by: str, reason: str) -> None:
    """Do what `set_alias` does, in the caller's transaction; pointing where it points already changes nothing."""
    entity = read.find_entity(tx, "model", name)
    version_id = None if seq is None else read.resolve(tx, "model", f"{name}:{seq}").id
    held = read.current_alias(tx, entity.id, alias)
    if (held.version_id if held else None) != version_id:
        move_alias(tx, entity.id, alias, version_id, at=store.clock.now(), by=by, reason=reason)


def current_aliases(store: Store, name: str) -> dict[str, int]:
    """Return the aliases that hold now, with the number of their version; raises NotFound for an unknown model."""
    with store.database.reading() as tx:
        entity = read.find_entity(tx, "model", name)
        return {alias: read.get_version(tx, held).seq for alias, held in read.list_aliases(tx, entity.id).items()}


def alias_history(store: Store, name: str, alias: str | None = None) -> list[Holding]:
    """Return every holding of an alias (or of all) of a model, newest first."""
    with store.database.reading() as tx:
        entity = read.find_entity(tx, "model", name)
        seqs = {version.id: version.seq for version in read.list_versions(tx, entity.id)}
        found = read.alias_history(tx, entity.id, alias)
    return [
        Holding(
            name=held.name,
            seq=seqs.get(held.version_id) if held.version_id else None,
            valid_from=held.valid_from,
            valid_to=held.valid_to,
            by=held.by,
            reason=held.reason,
        )
        for held in found
    ]


def previous_holder(tx: Connection, name: str, alias: str = CHAMPION) -> int:
    """Return the version that held an alias before the present holder; raises Conflict when there was none."""
    entity = read.find_entity(tx, "model", name)
    history = [held.version_id for held in read.alias_history(tx, entity.id, alias)]
    present = history[0] if history else None
    before = next((held for held in history if held is not None and held != present), None)
    if before is None:
        raise Conflict(
            f"No other version was {alias} of {name} before.", f"Name one: tidewheel models promote {name} VERSION"
        )
    return read.get_version(tx, before).seq
