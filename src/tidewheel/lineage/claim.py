"""Claim an execution: one owner at a time, by a token that grows; who holds an old token cannot write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tidewheel.clock import SystemClock, micros
from tidewheel.database.transaction import Transaction
from tidewheel.database.values import from_json, to_json
from tidewheel.errors import Conflict, NotFound, StaleOwner
from tidewheel.lineage.outbox import AGAIN, note
from tidewheel.lineage.records import Execution
from tidewheel.lineage.rows import execution_of


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
    row = tx.row(f"SELECT facets FROM execution WHERE id = :id{tx.locking}", id=execution_id)  # noqa: S608 - a constant
    if row is None:
        raise NotFound("execution", execution_id)
    merged = from_json(row["facets"]) | dict(facets or {})
    claimed = tx.row(
        "UPDATE execution SET owner = :owner, fencing = fencing + 1, state = :state, ended = NULL, error = NULL,"
        " facets = :facets WHERE id = :id RETURNING *",
        id=execution_id,
        owner=owner,
        state=state,
        facets=to_json(merged),
    )
    if claimed is None:
        raise NotFound("execution", execution_id)
    if tx.sinks:
        note(tx, execution_id, AGAIN if state == "RUNNING" else state, micros(SystemClock().now()))
    return execution_of(claimed)


def hold_execution(tx: Transaction, execution_id: str, fencing: int, states: Collection[str] = ("RUNNING",)) -> None:
    """Lock an execution until the transaction ends, and make sure that it is still held with this token.

    Raises StaleOwner when somebody else has claimed it or its state is another.
    """
    sql = f"SELECT fencing, state, owner FROM execution WHERE id = :id{tx.locking}"  # noqa: S608 - a constant
    row = tx.row(sql, id=execution_id)
    if row is None or row["fencing"] != fencing or row["state"] not in states:
        now = f"{row['state']}, held by {row['owner']} with token {row['fencing']}" if row else "gone"
        raise StaleOwner(
            f"The execution {execution_id} is not held with token {fencing} any more: it is {now}.",
            "Nothing was written. Whoever holds it goes on; look with: tidewheel runs",
        )


def describe_execution(tx: Transaction, execution_id: str, facets: Mapping[str, Any]) -> None:
    """Merge facets into those of an execution that goes on."""
    row = tx.row(f"SELECT facets FROM execution WHERE id = :id{tx.locking}", id=execution_id)  # noqa: S608 - a constant
    if row is None:
        raise NotFound("execution", execution_id)
    merged = from_json(row["facets"]) | dict(facets)
    tx.run("UPDATE execution SET facets = :facets WHERE id = :id", id=execution_id, facets=to_json(merged))


def take_queued(tx: Transaction, execution_id: str) -> None:
    """Take an execution out of the queue, for the caller to record as begun in the same transaction.

    Raises Conflict when it is not there: somebody else has claimed it, or it was cancelled.
    """
    if tx.run("DELETE FROM execution WHERE id = :id AND state = 'QUEUED'", id=execution_id) != 1:
        raise Conflict(
            f"The run {execution_id} does not wait any more.", "Another process has claimed it, or it was cancelled."
        )
