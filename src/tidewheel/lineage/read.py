"""Read the graph: entities, versions, executions, aliases, events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from tidewheel.database.transaction import Transaction
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage import tables
from tidewheel.lineage.records import Alias, Entity, Event, Execution, Version


def entity_of(row: Row[Any]) -> Entity:
    """Turn a row into its record."""
    return Entity(**row._mapping)


def version_of(row: Row[Any]) -> Version:
    """Turn a row into its record."""
    return Version(**row._mapping)


def execution_of(row: Row[Any]) -> Execution:
    """Turn a row into its record."""
    return Execution(**row._mapping)


def _alias_of(row: Row[Any]) -> Alias:
    return Alias(
        entity_id=row.entity_id,
        name=row.name,
        version_id=row.version_id,
        valid_from=row.valid_from,
        valid_to=row.valid_to,
        by=row.actor,
        reason=row.reason,
    )


def find_entity(tx: Transaction, kind: str, name: str) -> Entity:
    """Return a named entity; NotFound suggests near names."""
    table = tables.entity
    row = tx.execute(sa.select(table).where(table.c.kind == kind, table.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(kind, name, tx.execute(sa.select(table.c.name).where(table.c.kind == kind)).scalars())
    return entity_of(row)


def list_entities(tx: Transaction, kind: str) -> list[Entity]:
    """Return all entities of a kind, by name."""
    table = tables.entity
    rows = tx.execute(sa.select(table).where(table.c.kind == kind).order_by(table.c.name))
    return [entity_of(row) for row in rows]


def list_versions(tx: Transaction, entity_id: str, *, limit: int | None = None) -> list[Version]:
    """Return versions of an entity, newest first."""
    table = tables.version
    query = sa.select(table).where(table.c.entity_id == entity_id).order_by(table.c.seq.desc())
    return [version_of(row) for row in tx.execute(query.limit(limit) if limit else query)]


def get_version(tx: Transaction, version_id: str) -> Version:
    """Return a version by its id."""
    row = tx.execute(sa.select(tables.version).where(tables.version.c.id == version_id)).one_or_none()
    if row is None:
        raise NotFound("version", version_id)
    return version_of(row)


def resolve(tx: Transaction, kind: str, reference: str) -> Version:
    """Return the version that `name` (newest), `name:3` or `name@alias` means; NotFound otherwise."""
    name, mark, rest = _split(reference)
    entity = find_entity(tx, kind, name)
    if mark == "@":
        held = current_alias(tx, entity.id, rest)
        if held is None or held.version_id is None:
            raise NotFound(f"alias of {kind} {name!r}", rest, list_aliases(tx, entity.id))
        return get_version(tx, held.version_id)
    table = tables.version
    query = sa.select(table).where(table.c.entity_id == entity.id).order_by(table.c.seq.desc()).limit(1)
    row = tx.execute(query.where(table.c.seq == int(rest)) if mark else query).one_or_none()
    if row is None:
        newest = tx.execute(sa.select(sa.func.max(table.c.seq)).where(table.c.entity_id == entity.id)).scalar()
        mend = f"The newest is {newest}." if newest else ""
        raise NotFound(f"version of {kind} {name!r}", rest or "1", mend=mend)
    return version_of(row)


def _split(reference: str) -> tuple[str, str, str]:
    for mark in "@:":
        if mark in reference:
            name, rest = reference.split(mark, 1)
            if mark == ":" and not (rest.isascii() and rest.isdigit()):
                raise InvalidInput(f"{reference!r} is not a reference.", "Use name, name:3 or name@alias.")
            return name, mark, rest
    return reference, "", ""


def get_execution(tx: Transaction, execution_id: str) -> Execution:
    """Return an execution by its id, or by the start or end of it when that is unique."""
    table = tables.execution
    row = tx.execute(sa.select(table).where(table.c.id == execution_id)).one_or_none()
    if row is None and 4 <= len(execution_id) < 36 and set(execution_id) <= set("0123456789abcdef-"):
        part = table.c.id.like(f"{execution_id}%") | table.c.id.like(f"%{execution_id}")
        near = tx.execute(sa.select(table).where(part).limit(2)).all()
        row = near[0] if len(near) == 1 else None
    if row is None:
        raise NotFound("run or step", execution_id, mend="List them with: tidewheel runs")
    return execution_of(row)


def list_executions(
    tx: Transaction,
    kind: str | None = None,
    *,
    job: str | None = None,
    parent_id: str | None = None,
    state: str | Sequence[str] | None = None,
    limit: int = 50,
) -> list[Execution]:
    """Return executions, newest first, filtered by what is given."""
    table = tables.execution
    query = sa.select(table).order_by(table.c.started.desc(), table.c.id.desc()).limit(limit)
    for column, wanted in ((table.c.kind, kind), (table.c.job, job), (table.c.parent_id, parent_id)):
        if wanted is not None:
            query = query.where(column == wanted)
    if state is not None:
        query = query.where(table.c.state.in_([state] if isinstance(state, str) else list(state)))
    return [execution_of(row) for row in tx.execute(query)]


def current_alias(tx: Transaction, entity_id: str, name: str, *, as_of: datetime | None = None) -> Alias | None:
    """Return where a name points now, or pointed at a moment; None when it did not point anywhere."""
    table = tables.alias
    query = sa.select(table).where(table.c.entity_id == entity_id, table.c.name == name)
    if as_of is None:
        query = query.where(table.c.valid_to.is_(None))
    else:
        query = query.where(table.c.valid_from <= as_of, (table.c.valid_to > as_of) | table.c.valid_to.is_(None))
    row = tx.execute(query.order_by(table.c.valid_from.desc(), table.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else _alias_of(row)


def list_aliases(tx: Transaction, entity_id: str) -> dict[str, str]:
    """Return the names that point somewhere now, with the ids of their versions."""
    table = tables.alias
    held = (table.c.entity_id == entity_id) & table.c.valid_to.is_(None) & table.c.version_id.is_not(None)
    rows = tx.execute(sa.select(table.c.name, table.c.version_id).where(held))
    return {row.name: row.version_id for row in rows}


def alias_history(tx: Transaction, entity_id: str, name: str | None = None) -> list[Alias]:
    """Return every pointing of a name (or of all names) of an entity, newest first."""
    table = tables.alias
    query = sa.select(table).where(table.c.entity_id == entity_id)
    if name is not None:
        query = query.where(table.c.name == name)
    return [_alias_of(row) for row in tx.execute(query.order_by(table.c.valid_from.desc(), table.c.id.desc()))]


def list_events(
    tx: Transaction,
    *,
    subject_id: str | None = None,
    type_prefix: str = "",
    after_seq: int = 0,
    limit: int = 100,
    newest_first: bool = False,
) -> list[Event]:
    """Return events in journal order (or newest first), filtered by what is given."""
    table = tables.event
    query = sa.select(table).where(table.c.seq > after_seq).limit(limit)
    query = query.order_by(table.c.seq.desc() if newest_first else table.c.seq)
    if subject_id is not None:
        query = query.where(table.c.subject_id == subject_id)
    if type_prefix:
        query = query.where(table.c.type.startswith(type_prefix, autoescape=True))
    return [_event_of(row) for row in tx.execute(query)]


def _event_of(row: Row[Any]) -> Event:
    values = dict(row._mapping)
    return Event(by=values.pop("actor"), **values)


def count_events(tx: Transaction, *, subject_id: str) -> dict[str, int]:
    """Return how many events of each type there are about a subject."""
    table = tables.event
    query = sa.select(table.c.type, sa.func.count()).where(table.c.subject_id == subject_id).group_by(table.c.type)
    return {row[0]: int(row[1]) for row in tx.execute(query)}
