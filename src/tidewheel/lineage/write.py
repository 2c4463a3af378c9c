"""Write to the graph; every function takes the caller's open transaction, so that several writes commit together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tidewheel.clock import micros, new_id
from tidewheel.database.transaction import Transaction
from tidewheel.database.values import from_json, to_json
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.chain import link_digest
from tidewheel.lineage.outbox import note
from tidewheel.lineage.read import current_alias
from tidewheel.lineage.records import Alias, Entity, Event, Execution, Version
from tidewheel.lineage.rows import entity_of, execution_of

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
    "reproduces",
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
    known = "SELECT * FROM entity WHERE kind = :kind AND name = :name"
    row = tx.row(known, kind=kind, name=name)
    if row is None:
        tx.run(
            "INSERT INTO entity (id, kind, name, at, facets) VALUES (:id, :kind, :name, :at, :facets)"
            " ON CONFLICT DO NOTHING",
            id=new_id(),
            kind=kind,
            name=check_name(kind, name),
            at=micros(at),
            facets=to_json(dict(facets or {})),
        )
        row = tx.row(known, kind=kind, name=name)
    if row is None:
        raise NotFound(kind, name)
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
    if tx.row(f"SELECT id FROM entity WHERE id = :id{tx.locking}", id=entity_id) is None:  # noqa: S608 - a constant
        raise NotFound("entity", entity_id)
    last = tx.row("SELECT MAX(seq) AS seq FROM version WHERE entity_id = :entity", entity=entity_id)
    version = Version(
        id=new_id(),
        entity_id=entity_id,
        seq=((last and last["seq"]) or 0) + 1,
        digest=digest,
        uri=uri,
        media_type=media_type,
        size=size,
        schema=schema,
        state="LIVE",
        facets=dict(facets or {}),
        at=at,
    )
    tx.run(
        "INSERT INTO version (id, entity_id, seq, digest, uri, media_type, size, schema, state, facets, at)"
        " VALUES (:id, :entity_id, :seq, :digest, :uri, :media_type, :size, :schema, :state, :facets, :at)",
        id=version.id,
        entity_id=entity_id,
        seq=version.seq,
        digest=digest,
        uri=uri,
        media_type=media_type,
        size=size,
        schema=None if schema is None else to_json(schema),
        state=version.state,
        facets=to_json(version.facets),
        at=micros(at),
    )
    return version


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
    ended: datetime | None = None,
    error: str | None = None,
) -> Execution:
    """Record that something begins, or with `ended` that something began and ended."""
    execution = Execution(
        id=execution_id or new_id(),
        kind=kind,
        job=job,
        parent_id=parent_id,
        state=state,
        owner=owner,
        fencing=fencing,
        code_digest=code_digest,
        environment_digest=environment_digest,
        parameters=dict(parameters or {}),
        started=at,
        ended=ended,
        error=error,
        facets=dict(facets or {}),
    )
    tx.run(
        "INSERT INTO execution (id, kind, job, parent_id, state, owner, fencing, code_digest, environment_digest,"
        " parameters, started, ended, error, facets) VALUES (:id, :kind, :job, :parent_id, :state, :owner, :fencing,"
        " :code, :environment, :parameters, :started, :ended, :error, :facets)",
        id=execution.id,
        kind=kind,
        job=job,
        parent_id=parent_id,
        state=state,
        owner=owner,
        fencing=fencing,
        code=code_digest,
        environment=environment_digest,
        parameters=to_json(execution.parameters),
        started=micros(at),
        ended=None if ended is None else micros(ended),
        error=error,
        facets=to_json(execution.facets),
    )
    if tx.sinks:
        note(tx, execution.id, state if ended is None else "RUNNING", micros(at))
        if ended is not None:
            note(tx, execution.id, state, micros(ended))
    return execution


def close_execution(
    tx: Transaction, execution_id: str, *, at: datetime, state: str, error: str | None, facets: Mapping[str, Any]
) -> None:
    """Record how something ended whose holder knows all its facets: nothing is read back, as `finish_execution` does.

    Raises NotFound for an unknown execution.
    """
    changed = tx.run(
        "UPDATE execution SET state = :state, ended = :ended, error = :error, facets = :facets WHERE id = :id",
        id=execution_id,
        state=state,
        ended=micros(at),
        error=error,
        facets=to_json(facets),
    )
    if not changed:
        raise NotFound("execution", execution_id)
    if tx.sinks:
        note(tx, execution_id, state, micros(at))


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
    row = tx.row(f"SELECT facets FROM execution WHERE id = :id{tx.locking}", id=execution_id)  # noqa: S608 - a constant
    if row is None:
        raise NotFound("execution", execution_id)
    finished = tx.row(
        "UPDATE execution SET state = :state, ended = :ended, error = :error, facets = :facets WHERE id = :id"
        " RETURNING *",
        id=execution_id,
        state=state,
        ended=micros(at),
        error=error,
        facets=to_json(from_json(row["facets"]) | dict(facets or {})),
    )
    if finished is None:
        raise NotFound("execution", execution_id)
    if tx.sinks:
        note(tx, execution_id, state, micros(at))
    return execution_of(finished)


def link(tx: Transaction, src_id: str, relation: str, dst_id: str, *, role: str = "", idx: int = 0) -> None:
    """Draw an arrow from the later thing to the earlier one; drawing it again changes nothing."""
    if relation not in RELATIONS:
        raise NotFound("relation", relation, RELATIONS)
    tx.run(
        "INSERT INTO edge (src, relation, dst, role, idx) VALUES (:src, :relation, :dst, :role, :idx)"
        " ON CONFLICT DO NOTHING",
        src=src_id,
        relation=relation,
        dst=dst_id,
        role=role,
        idx=idx,
    )


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
    fact: dict[str, Any] = {
        "id": new_id(),
        "at": at,
        "type": type,
        "subject_id": subject_id,
        "execution_id": execution_id,
        "actor": by,
        "body": body,
    }
    digest = _chain(tx, fact) if governs else ""
    row = tx.row(
        "INSERT INTO event (id, at, type, subject_id, execution_id, actor, body, governs, digest) VALUES"
        " (:id, :at, :type, :subject_id, :execution_id, :actor, :body, :governs, :digest) RETURNING seq",
        **fact | {"at": micros(at), "body": None if body is None else to_json(body)},
        governs=governs,
        digest=digest,
    )
    del fact["actor"]
    return Event(seq=row["seq"] if row else 0, by=by, governs=governs, digest=digest, **fact)


def _chain(tx: Transaction, fact: Mapping[str, Any]) -> str:
    if tx.dialect == "postgresql":
        tx.rows("SELECT pg_advisory_xact_lock(:lock)", lock=_AUDIT_LOCK)
    newest = tx.row("SELECT digest FROM event WHERE governs ORDER BY seq DESC LIMIT 1")
    return link_digest(newest["digest"] if newest else "", fact)


def move_alias(
    tx: Transaction, entity_id: str, name: str, version_id: str | None, *, at: datetime, by: str, reason: str
) -> Alias:
    """Point a name to a version from now on (None takes it away); the old pointing stays in the history."""
    if tx.row(f"SELECT id FROM entity WHERE id = :id{tx.locking}", id=entity_id) is None:  # noqa: S608 - a constant
        raise NotFound("entity", entity_id)
    before = current_alias(tx, entity_id, check_name("alias", name))
    tx.run(
        "UPDATE alias SET valid_to = :at WHERE entity_id = :entity AND name = :name AND valid_to IS NULL",
        at=micros(at),
        entity=entity_id,
        name=name,
    )
    tx.run(
        "INSERT INTO alias (id, entity_id, name, version_id, valid_from, actor, reason)"
        " VALUES (:id, :entity, :name, :version, :at, :actor, :reason)",
        id=new_id(),
        entity=entity_id,
        name=name,
        version=version_id,
        at=micros(at),
        actor=by,
        reason=reason,
    )
    body = {"alias": name, "from": before.version_id if before else None, "to": version_id, "reason": reason}
    append_event(tx, "alias.moved", body, at=at, subject_id=entity_id, by=by, governs=True)
    return Alias(
        entity_id=entity_id, name=name, version_id=version_id, valid_from=at, valid_to=None, by=by, reason=reason
    )
