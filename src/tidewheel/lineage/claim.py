"""Claim an execution: one owner at a time, by a token that grows; who holds an old token cannot write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from tidewheel.database.transaction import Transaction
from tidewheel.errors import NotFound, StaleOwner
from tidewheel.lineage import tables
from tidewheel.lineage.read import execution_of
from tidewheel.lineage.records import Execution

# Built once: it is executed in every transaction of a run.
_HOLDER = (
    sa.select(tables.execution.c.fencing, tables.execution.c.state, tables.execution.c.owner)
    .where(tables.execution.c.id == sa.bindparam("wanted"))
    .with_for_update()
)


def claim_execution(
    tx: Transaction,
    execution_id: str,
    *,
    owner: str,
    state: str = "RUNNING",
    facets: Mapping[str, Any] | None = None,
) -> Execution:
    """Make `owner` the holder of an execution that goes on: next token, no end, no error; facets are merged.

    Raises NotFound for an unknown execution.
    """
    table = tables.execution
    row = tx.execute(sa.select(table).where(table.c.id == execution_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("execution", execution_id)
    changed = {
        "owner": owner,
        "fencing": row.fencing + 1,
        "state": state,
        "ended": None,
        "error": None,
        "facets": dict(row.facets) | dict(facets or {}),
    }
    tx.execute(sa.update(table).where(table.c.id == execution_id).values(changed))
    return execution_of(tx.execute(sa.select(table).where(table.c.id == execution_id)).one())


def hold_execution(tx: Transaction, execution_id: str, fencing: int, states: Collection[str] = ("RUNNING",)) -> None:
    """Lock an execution until the transaction ends, and make sure that it is still held with this token.

    Raises StaleOwner when somebody else has claimed it or its state is another.
    """
    row = tx.execute(_HOLDER, {"wanted": execution_id}).one_or_none()
    if row is None or row.fencing != fencing or row.state not in states:
        now = f"{row.state}, held by {row.owner} with token {row.fencing}" if row else "gone"
        raise StaleOwner(
            f"The execution {execution_id} is not held with token {fencing} any more: it is {now}.",
            "Nothing was written. Whoever holds it goes on; look with: tidewheel runs",
        )


def describe_execution(tx: Transaction, execution_id: str, facets: Mapping[str, Any]) -> None:
    """Merge facets into those of an execution that goes on."""
    table = tables.execution
    row = tx.execute(sa.select(table.c.facets).where(table.c.id == execution_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("execution", execution_id)
    merged = dict(row.facets) | dict(facets)
    tx.execute(sa.update(table).where(table.c.id == execution_id).values(facets=merged))
