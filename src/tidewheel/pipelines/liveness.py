"""Find runs whose process is dead: the kernel has freed their lock here, or their lease has run out elsewhere."""

from __future__ import annotations

from tidewheel.database.transaction import Transaction
from tidewheel.errors import AlreadyRunning
from tidewheel.lineage.read import get_execution, list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.journal import check_run_out, lose
from tidewheel.pipelines.leases import database_micros, find_lease, locked_lease
from tidewheel.pipelines.locks import owner_is_dead, place_at
from tidewheel.pipelines.transitions import ALIVE_RUN

_ALIVE = sorted(ALIVE_RUN)


def mark_lost(store: Store) -> list[str]:
    """Record every run as LOST that claims to go on while its process is dead; return their ids.

    A run of this machine and home is judged by its lock: the kernel frees it at once when the process dies. The lock of
    another machine's process cannot be seen: its run is lost when its lease has run out.
    """
    with store.database.reading() as tx:
        suspects = _claimed(tx)
        if not suspects:
            return []
        place = place_at(store.home)
        now = database_micros(tx, store.clock)
        ours = {run.id for run in suspects if place.is_of(run.facets)}
        silent = {run.id for run in suspects if run.id not in ours and _run_out(tx, run.id, now)}
    return [
        run.id
        for run in suspects
        if (run.id in ours and _lost_here(store, run.id)) or (run.id in silent and _lost_elsewhere(store, run.id))
    ]


def _claimed(tx: Transaction) -> list[Execution]:
    runs = list_executions(tx, "run", state=_ALIVE, limit=10_000)
    # Those of this room; others may keep runs of their own kind. One without an owner was left waiting, on purpose.
    return [run for run in runs if "host" in run.facets and run.owner]


def _run_out(tx: Transaction, run_id: str, now: int) -> bool:
    lease = find_lease(tx, run_id)
    return lease is not None and bool(lease.holder) and lease.until <= now


def _lost_here(store: Store, run_id: str) -> bool:
    """Mark a run while its lock is ours, unless its owner ended it in the meantime."""
    with owner_is_dead(store.home, run_id) as dead:
        return dead and _lost(store, run_id, elsewhere=False)


def _lost_elsewhere(store: Store, run_id: str) -> bool:
    try:
        return _lost(store, run_id, elsewhere=True)
    except AlreadyRunning:
        return False


def _lost(store: Store, run_id: str, *, elsewhere: bool) -> bool:
    place = place_at(store.home)
    with store.database.transaction() as tx:
        locked_lease(tx, run_id)
        run = get_execution(tx, run_id)
        if run.state not in ALIVE_RUN or place.is_of(run.facets) is elsewhere:
            return False  # it has ended or moved on while we looked
        if elsewhere:
            check_run_out(tx, run, store)
        lose(tx, run, store.clock.now())
    return True
