"""The traffic rows: which versions answer a model's requests, append-only; the newest row holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from tidewheel.clock import new_id
from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.lineage.read import find_entity, resolve
from tidewheel.lineage.store import Store
from tidewheel.lineage.tables import entity as entity_table
from tidewheel.lineage.write import append_event, ensure_entity, link
from tidewheel.registry.tables import deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How the requests of a model are answered."""

    model: str  # name of the model, which is also its endpoint
    seq: int  # 1, 2, 3 ...; the highest holds
    champion: int  # version that answers
    challenger: int | None = None  # version on trial
    share: float = 0.0  # share of units that the challenger answers, 0 to 1
    salt: str = ""  # of the sticky split; the same while a rollout grows
    paired: bool = False  # whether each request is scored by both, one of them off the answer
    fault: float = 0.0  # game day: share of the challenger's requests that are made to fail, 0 to 1
    at: datetime  # since when
    by: str  # who moved it
    reason: str  # why


def set_traffic(
    tx: Connection,
    store: Store,
    model: str,
    *,
    champion: int,
    challenger: int | None = None,
    share: float = 0.0,
    salt: str = "",
    paired: bool = False,
    fault: float = 0.0,
    by: str,
    reason: str,
    expected_seq: int | None = None,
) -> Traffic:
    """Append the traffic row that holds from now on, in the caller's transaction; a governing event tells of it.

    With `expected_seq` it is a compare and swap: Conflict when another row came first.
    Raises NotFound for an unknown version, InvalidInput for a share outside 0 to 1 or without challenger.
    """
    _check(challenger, share, fault)
    entity = find_entity(tx, "model", model)
    tx.execute(sa.select(entity_table.c.id).where(entity_table.c.id == entity.id).with_for_update())
    before = _newest(tx, model)
    seq = before.seq if before else 0
    if expected_seq is not None and expected_seq != seq:
        raise Conflict(f"The traffic of {model} was moved meanwhile (row {seq}).", "Look again and decide anew.")
    versions = [resolve(tx, "model", f"{model}:{each}") for each in (champion, challenger) if each is not None]
    traffic = Traffic(
        model=model,
        seq=seq + 1,
        champion=champion,
        challenger=challenger,
        share=share if challenger is not None else 0.0,
        salt=salt,
        paired=paired,
        fault=fault,
        at=store.clock.now(),
        by=by,
        reason=reason,
    )
    values = {name: getattr(traffic, name) for name in Traffic.__slots__ if name != "by"}
    tx.execute(sa.insert(deployment).values(id=new_id(), actor=by, **values))
    endpoint = ensure_entity(tx, "endpoint", model, at=traffic.at)
    for version in versions:
        link(tx, endpoint.id, "served_by", version.id, role="version")
    append_event(tx, "traffic.moved", _body(traffic), at=traffic.at, subject_id=entity.id, by=by, governs=True)
    return traffic


def _check(challenger: int | None, share: float, fault: float) -> None:
    if not 0 <= share <= 1 or not 0 <= fault <= 1:
        raise InvalidInput(f"share = {share}, fault = {fault} cannot be.", "Give shares between 0 and 1.")
    if challenger is None and (share > 0 or fault > 0):
        raise InvalidInput(f"A share of {share} was given to no challenger.", "Name the challenger's version.")


def _body(traffic: Traffic) -> dict[str, object]:
    names = ("model", "seq", "champion", "challenger", "share", "paired", "fault", "reason")
    trial = f", version {traffic.challenger} gets {traffic.share:.0%}" if traffic.challenger else ""
    text = f"version {traffic.champion} answers{trial}: {traffic.reason}"
    return {name: getattr(traffic, name) for name in names} | {"text": text}


def current_traffic(store: Store, model: str) -> Traffic:
    """Return the row that holds; raises NotFound for a model that is not deployed."""
    with store.database.reading() as tx:
        return traffic_in(tx, model)


def traffic_in(tx: Connection, model: str) -> Traffic:
    """Return what `current_traffic` does, in the caller's transaction."""
    found = _newest(tx, model)
    if found is None:
        known = tx.execute(sa.select(deployment.c.model).distinct()).scalars()
        raise NotFound("deployed model", model, known, f"Deploy one with: tidewheel models promote {model} VERSION")
    return found


def traffic_history(store: Store, model: str, *, limit: int = 50) -> list[Traffic]:
    """Return the rows of a model, newest first; none when it was never deployed."""
    query = sa.select(deployment).where(deployment.c.model == model).order_by(deployment.c.seq.desc()).limit(limit)
    with store.database.reading() as tx:
        return [_traffic(row) for row in tx.execute(query)]


def rollback_traffic(tx: Connection, store: Store, model: str, *, by: str, reason: str) -> Traffic:
    """Bring back the row that held before the present one, as a new row; raises Conflict when there is none."""
    query = sa.select(deployment).where(deployment.c.model == model).order_by(deployment.c.seq.desc()).limit(2)
    rows = tx.execute(query).all()
    if len(rows) < 2:
        raise Conflict(f"There is no earlier traffic of {model} to go back to.", "Promote a version instead.")
    before = _traffic(rows[1])
    return set_traffic(
        tx,
        store,
        model,
        champion=before.champion,
        challenger=before.challenger,
        share=before.share,
        salt=before.salt,
        paired=before.paired,
        by=by,
        reason=reason,
    )


def _newest(tx: Connection, model: str) -> Traffic | None:
    query = sa.select(deployment).where(deployment.c.model == model).order_by(deployment.c.seq.desc()).limit(1)
    row = tx.execute(query).one_or_none()
    return None if row is None else _traffic(row)


def _traffic(row: Row[tuple[object, ...]]) -> Traffic:
    values = dict(row._mapping)
    del values["id"]
    return Traffic(by=values.pop("actor"), **values)
