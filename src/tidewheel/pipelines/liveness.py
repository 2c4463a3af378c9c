"""Find runs whose process is dead: the kernel has freed their lock."""

from __future__ import annotations

from tidewheel.database.transaction import Transaction
from tidewheel.lineage.read import get_execution, list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.journal import lose
from tidewheel.pipelines.locks import lives_here, owner_is_dead
from tidewheel.pipelines.transitions import ALIVE_RUN

_ALIVE = sorted(ALIVE_RUN)


def mark_lost(store: Store) -> list[str]:
    """Record every run as LOST that claims to go on while its process is dead; return their ids.

    Only runs of this machine and home are judged: the lock of another machine's process cannot be seen.
    """
    with store.database.reading() as tx:
        suspects = [run for run in _claimed(tx) if lives_here(run.facets["host"], run.facets["home"], store.home)]
    found: list[str] = []
    for run in suspects:
        with owner_is_dead(store.home, run.id) as dead:
            if dead and _lost(store, run.id):
                found.append(run.id)
    return found


def _claimed(tx: Transaction) -> list[Execution]:
    runs = list_executions(tx, "run", state=_ALIVE, limit=10_000)
    return [run for run in runs if "host" in run.facets]  # those of this room; others may keep runs of their own kind


def _lost(store: Store, run_id: str) -> bool:
    """Mark a run while its lock is ours, unless its owner ended it in the meantime."""
    with store.database.transaction() as tx:
        run = get_execution(tx, run_id)
        if run.state not in ALIVE_RUN:
            return False
        lose(tx, run, store.clock.now())
    return True
