"""Single flight: of identical calls in several runs one is executed, the others wait for its answer.

A flight is announced in the transaction that records the begin of a try and taken back in the one that records its
end, so it lives as long as a try. Who has a flight waits for nobody, so nobody waits in a circle; a flight whose run
is no longer going on counts for nothing and is taken over.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidewheel.database.transaction import Transaction, among
from tidewheel.pipelines.transitions import ALIVE_RUN

_ALIVE = among("alive", sorted(ALIVE_RUN))
_ANNOUNCE = (
    "INSERT INTO step_flight (key, execution_id, run_id) VALUES (:key, :execution_id, :run_id) "
    "ON CONFLICT (key) DO NOTHING"
)
_FIND = (
    "SELECT f.execution_id, f.run_id FROM step_flight f JOIN execution e ON e.id = f.run_id "  # noqa: S608 - constants
    f"WHERE f.key = :key AND f.run_id <> :run_id AND e.state IN ({_ALIVE.sql})"
)
# Only the one that was seen dead is replaced: of two that wait, one takes over and the other waits for it.
_TAKE_OVER = (
    "UPDATE step_flight SET execution_id = :execution_id, run_id = :run_id WHERE key = :key AND (run_id = :run_id "  # noqa: S608
    f"OR NOT EXISTS (SELECT 1 FROM execution e WHERE e.id = step_flight.run_id AND e.state IN ({_ALIVE.sql})))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A call that is being executed in another run."""

    execution_id: str  # the call
    run_id: str  # its run


def find_flight(tx: Transaction, key: str, run_id: str) -> Flight | None:
    """Return who executes a call with that key in another run that goes on; None when nobody does."""
    row = tx.row(_FIND, key=key, run_id=run_id, **_ALIVE.values)
    return None if row is None else Flight(**row)


def announce(tx: Transaction, key: str, execution_id: str, run_id: str) -> Flight | None:
    """Announce a flight; return the one that is under way already, None when it is ours now.

    On PostgreSQL the insert waits for a transaction that is taking the same flight back, so its answer can be seen
    afterwards.
    """
    mine = {"key": key, "execution_id": execution_id, "run_id": run_id}
    if tx.run(_ANNOUNCE, **mine) or tx.run(_TAKE_OVER, **mine, **_ALIVE.values):
        return None
    found = find_flight(tx, key, run_id)
    return found or Flight(execution_id="", run_id="")  # it ended between two statements: look again soon


def land(tx: Transaction, key: str, run_id: str) -> None:
    """Take a flight back when its try has ended."""
    tx.run("DELETE FROM step_flight WHERE key = :key AND run_id = :run_id", key=key, run_id=run_id)


def land_all(tx: Transaction, run_id: str) -> None:
    """Take back whatever a run has in flight, because it has ended."""
    tx.run("DELETE FROM step_flight WHERE run_id = :run_id", run_id=run_id)
