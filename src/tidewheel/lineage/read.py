"""Read the graph: entities, versions, executions, aliases, events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tidewheel.clock import micros
from tidewheel.database.transaction import Transaction, among
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.records import Alias, Entity, Event, Execution, Version
from tidewheel.lineage.rows import alias_of, entity_of, event_of, execution_of, version_of


def find_entity(tx: Transaction, kind: str, name: str) -> Entity:
    """Return a named entity; NotFound suggests near names."""
    row = tx.row("SELECT * FROM entity WHERE kind = :kind AND name = :name", kind=kind, name=name)
    if row is None:
        known = tx.rows("SELECT name FROM entity WHERE kind = :kind", kind=kind)
        raise NotFound(kind, name, [each["name"] for each in known])
    return entity_of(row)


def list_entities(tx: Transaction, kind: str) -> list[Entity]:
    """Return all entities of a kind, by name."""
    return [entity_of(row) for row in tx.rows("SELECT * FROM entity WHERE kind = :kind ORDER BY name", kind=kind)]


def list_versions(tx: Transaction, entity_id: str, *, limit: int | None = None) -> list[Version]:
    """Return versions of an entity, newest first."""
    sql = "SELECT * FROM version WHERE entity_id = :entity ORDER BY seq DESC"
    rows = tx.rows(f"{sql} LIMIT :most", entity=entity_id, most=limit) if limit else tx.rows(sql, entity=entity_id)
    return [version_of(row) for row in rows]


def get_version(tx: Transaction, version_id: str) -> Version:
    """Return a version by its id."""
    row = tx.row("SELECT * FROM version WHERE id = :id", id=version_id)
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
    newest = tx.row("SELECT MAX(seq) AS seq FROM version WHERE entity_id = :entity", entity=entity.id)
    last = newest["seq"] if newest else None
    wanted = int(rest) if mark else last
    row = tx.row("SELECT * FROM version WHERE entity_id = :entity AND seq = :seq", entity=entity.id, seq=wanted)
    if row is None:
        mend = f"The newest is {last}." if last else ""
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
    row = tx.row("SELECT * FROM execution WHERE id = :id", id=execution_id)
    if row is None and 4 <= len(execution_id) < 36 and set(execution_id) <= set("0123456789abcdef-"):
        sql = "SELECT * FROM execution WHERE id LIKE :start OR id LIKE :end LIMIT 2"
        near = tx.rows(sql, start=f"{execution_id}%", end=f"%{execution_id}")
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
    wanted = {"kind": kind, "job": job, "parent_id": parent_id}
    values: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    tests = [f"{name} = :{name}" for name in values]
    if state is not None:
        states = among("state", [state] if isinstance(state, str) else state)
        tests.append(f"state IN ({states.sql})")
        values |= states.values
    where = f"WHERE {' AND '.join(tests)}" if tests else ""
    sql = f"SELECT * FROM execution {where} ORDER BY started DESC, id DESC LIMIT :most"  # noqa: S608 - names of columns
    return [execution_of(row) for row in tx.rows(sql, most=limit, **values)]


def list_used(tx: Transaction, execution_id: str) -> dict[str, str]:
    """Return the versions that an execution used, by their role."""
    query = "SELECT role, dst FROM edge WHERE src = :src AND relation = 'used' ORDER BY role, idx"
    return {str(row["role"]): str(row["dst"]) for row in tx.rows(query, src=execution_id)}


def current_alias(tx: Transaction, entity_id: str, name: str, *, as_of: datetime | None = None) -> Alias | None:
    """Return where a name points now, or pointed at a moment; None when it did not point anywhere."""
    holds = "valid_to IS NULL" if as_of is None else "valid_from <= :at AND (valid_to > :at OR valid_to IS NULL)"
    sql = f"SELECT * FROM alias WHERE entity_id = :entity AND name = :name AND {holds}"  # noqa: S608 - one of two texts
    values: dict[str, Any] = {} if as_of is None else {"at": micros(as_of)}
    row = tx.row(f"{sql} ORDER BY valid_from DESC, id DESC LIMIT 1", entity=entity_id, name=name, **values)
    return None if row is None else alias_of(row)


def list_aliases(tx: Transaction, entity_id: str) -> dict[str, str]:
    """Return the names that point somewhere now, with the ids of their versions."""
    held = "entity_id = :entity AND valid_to IS NULL AND version_id IS NOT NULL"
    rows = tx.rows(f"SELECT name, version_id FROM alias WHERE {held}", entity=entity_id)  # noqa: S608 - a constant
    return {row["name"]: row["version_id"] for row in rows}


def alias_history(tx: Transaction, entity_id: str, name: str | None = None) -> list[Alias]:
    """Return every pointing of a name (or of all names) of an entity, newest first."""
    sql = "SELECT * FROM alias WHERE entity_id = :entity ORDER BY valid_from DESC, id DESC"
    pointings = [alias_of(row) for row in tx.rows(sql, entity=entity_id)]
    return [each for each in pointings if name is None or each.name == name]


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
    tests = ["seq > :after"]
    values: dict[str, Any] = {"after": after_seq, "most": limit}
    if subject_id is not None:
        tests.append("subject_id = :subject")
        values["subject"] = subject_id
    if type_prefix:
        tests.append("SUBSTR(type, 1, :length) = :prefix")  # LIKE would take its _ and % for patterns
        values |= {"prefix": type_prefix, "length": len(type_prefix)}
    order = "DESC" if newest_first else "ASC"
    sql = f"SELECT * FROM event WHERE {' AND '.join(tests)} ORDER BY seq {order} LIMIT :most"  # noqa: S608 - our own texts
    return [event_of(row) for row in tx.rows(sql, **values)]


def count_events(tx: Transaction, *, subject_id: str) -> dict[str, int]:
    """Return how many events of each type there are about a subject."""
    sql = "SELECT type, COUNT(*) AS many FROM event WHERE subject_id = :subject GROUP BY type"
    return {row["type"]: int(row["many"]) for row in tx.rows(sql, subject=subject_id)}
