"""Write to the graph; every function takes the caller's open transaction, so that several writes commit together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tidewheel.clock import new_id
from tidewheel.database.insert import insert_if_new, insert_into
from tidewheel.database.transaction import Transaction
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage import tables
from tidewheel.lineage.chain import link_digest
from tidewheel.lineage.read import current_alias, entity_of, execution_of
from tidewheel.lineage.records import Alias, Entity, Event, Execution, Version

RELATIONS = (
    "used",
    "generated",
    "derived",
    "part_of",
    "triggered_by",
    "evaluated",
    "approved",
    "served_by",
    "supersedes",
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/\[\]]{0,199}")
_AUDIT_LOCK = 7144  # PostgreSQL advisory lock: the chain has one writer at a time


def check_name(kind: str, name: str) -> str:
    """Return a name that can be kept, or raise InvalidInput: letters, digits and `_ . - /`, at most 200."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be the name of a {kind}.",
            "Use letters, digits and _ . - / (at most 200 characters, no space, no : or @).",
        )
    return name


def ensure_entity(
    tx: Transaction, kind: str, name: str, *, at: datetime, facets: Mapping[str, Any] | None = None
) -> Entity:
    """Return the entity of that kind and name, made now if it is new; facets are kept only when it is made."""
    table = tables.entity
    known = sa.select(table).where(table.c.kind == kind, table.c.name == name)
    row = tx.execute(known).one_or_none()
    if row is None:
        values = {"id": new_id(), "kind": kind, "name": check_name(kind, name), "at": at, "facets": dict(facets or {})}
        tx.execute(insert_if_new(table, tx.dialect), values)
        row = tx.execute(known).one()
    return entity_of(row)


def add_version(
    tx: Transaction,
    entity_id: str,
    *,
    at: datetime,
    digest: str,
    uri: str = "",
    media_type: str = "",
    size: int = 0,
    schema: Any = None,
    facets: Mapping[str, Any] | None = None,
) -> Version:
    """Record the next version of an entity; its row is locked, so two writers get two numbers."""
    entity, table = tables.entity, tables.version
    locked = tx.execute(sa.select(entity.c.id).where(entity.c.id == entity_id).with_for_update()).scalar()
    if locked is None:
        raise NotFound("entity", entity_id)
    last = tx.execute(sa.select(sa.func.max(table.c.seq)).where(table.c.entity_id == entity_id)).scalar()
    values = {
        "id": new_id(),
        "entity_id": entity_id,
        "seq": (last or 0) + 1,
        "digest": digest,
        "uri": uri,
        "media_type": media_type,
        "size": size,
        "schema": schema,
        "state": "LIVE",
        "facets": dict(facets or {}),
        "at": at,
    }
    tx.execute(insert_into(table, tx.dialect), values)
    return Version(**values)


def start_execution(
    tx: Transaction,
    *,
    kind: str,
    job: str,
    at: datetime,
    parent_id: str | None = None,
    state: str = "RUNNING",
    code_digest: str = "",
    environment_digest: str = "",
    parameters: Mapping[str, Any] | None = None,
    owner: str = "",
    fencing: int = 0,
    facets: Mapping[str, Any] | None = None,
    execution_id: str | None = None,
) -> Execution:
    """Record that something begins."""
    values: dict[str, Any] = {
        "id": execution_id or new_id(),
        "kind": kind,
        "job": job,
        "parent_id": parent_id,
        "state": state,
        "owner": owner,
        "fencing": fencing,
        "code_digest": code_digest,
        "environment_digest": environment_digest,
        "parameters": dict(parameters or {}),
        "started": at,
        "ended": None,
        "error": None,
        "facets": dict(facets or {}),
    }
    tx.execute(insert_into(tables.execution, tx.dialect), values)
    return Execution(**values)


def finish_execution(
    tx: Transaction,
    execution_id: str,
    *,
    at: datetime,
    state: str,
    error: str | None = None,
    facets: Mapping[str, Any] | None = None,
) -> Execution:
    """Record how something ended; the facets are merged into those it has."""
    table = tables.execution
    row = tx.execute(sa.select(table).where(table.c.id == execution_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("execution", execution_id)
    merged = dict(row.facets) | dict(facets or {})
    changed = {"state": state, "ended": at, "error": error, "facets": merged}
    tx.execute(sa.update(table).where(table.c.id == execution_id).values(changed))
    return execution_of(tx.execute(sa.select(table).where(table.c.id == execution_id)).one())


def link(tx: Transaction, src_id: str, relation: str, dst_id: str, *, role: str = "", idx: int = 0) -> None:
    """Draw an arrow from the later thing to the earlier one; drawing it again changes nothing."""
    if relation not in RELATIONS:
        raise NotFound("relation", relation, RELATIONS)
    row = {"src": src_id, "relation": relation, "dst": dst_id, "role": role, "idx": idx}
    tx.execute(insert_if_new(tables.edge, tx.dialect), row)


def append_event(
    tx: Transaction,
    type: str,  # noqa: A002 - the word of the journal, the column and the docs
    body: Any,
    *,
    at: datetime,
    subject_id: str = "",
    execution_id: str = "",
    by: str = "",
    governs: bool = False,
) -> Event:
    """Append a fact; one that governs is chained by hash to the one before it."""
    fact = {
        "id": new_id(),
        "at": at,
        "type": type,
        "subject_id": subject_id,
        "execution_id": execution_id,
        "actor": by,
        "body": body,
    }
    digest = _chain(tx, fact) if governs else ""
    statement = sa.insert(tables.event).values(**fact, governs=governs, digest=digest).returning(tables.event.c.seq)
    seq = int(tx.execute(statement).scalar_one())
    del fact["actor"]
    return Event(seq=seq, by=by, governs=governs, digest=digest, **fact)


def _chain(tx: Transaction, fact: Mapping[str, Any]) -> str:
    if tx.dialect == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_AUDIT_LOCK)))
    table = tables.event
    newest = sa.select(table.c.digest).where(table.c.governs).order_by(table.c.seq.desc()).limit(1)
    return link_digest(tx.execute(newest).scalar() or "", fact)


def move_alias(
    tx: Transaction, entity_id: str, name: str, version_id: str | None, *, at: datetime, by: str, reason: str
) -> Alias:
    """Point a name to a version from now on (None takes it away); the old pointing stays in the history."""
    table = tables.alias
    locked = tx.execute(sa.select(tables.entity.c.id).where(tables.entity.c.id == entity_id).with_for_update()).scalar()
    if locked is None:
        raise NotFound("entity", entity_id)
    before = current_alias(tx, entity_id, check_name("alias", name))
    open_row = (table.c.entity_id == entity_id) & (table.c.name == name) & table.c.valid_to.is_(None)
    tx.execute(sa.update(table).where(open_row).values(valid_to=at))
    values = {"entity_id": entity_id, "name": name, "version_id": version_id, "valid_from": at, "valid_to": None}
    tx.execute(sa.insert(table).values(**values, id=new_id(), actor=by, reason=reason))
    body = {"alias": name, "from": before.version_id if before else None, "to": version_id, "reason": reason}
    append_event(tx, "alias.moved", body, at=at, subject_id=entity_id, by=by, governs=True)
    return Alias(**values, by=by, reason=reason)  # type: ignore[arg-type]
