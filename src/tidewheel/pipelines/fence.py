"""The fence of a run: one write after the other, each kept once, and none by a process that has lost the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tidewheel.database.transaction import Transaction
from tidewheel.errors import StaleOwner
from tidewheel.lineage.claim import hold_execution
from tidewheel.lineage.read import get_execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.keeper import Keeper
from tidewheel.pipelines.leases import Hold, count_write, locked_lease, stands
from tidewheel.pipelines.patience import Patience
from tidewheel.pipelines.transitions import ALIVE_RUN

T = TypeVar("T")
_MEND = "Nothing more of this process is kept, and its children are ended. Look with: tidewheel runs"


class Fence:
    """Lets the holder of a run write; `hold` is its lease, `fencing` its token.

    A write is numbered in its own transaction. When its commit is sent and the connection breaks, nobody knows whether
    it was kept: then the write is tried again, and finds either its own number, so that it stands, or the one before.
    """

    def __init__(self, store: Store, hold: Hold, fencing: int, patience: Patience) -> None:
        self.store = store
        self.hold = hold
        self.patience = patience
        self.keeper = Keeper(store, hold, self._lost)
        self._fencing = fencing

    def write(self, body: Callable[[Transaction], T]) -> T:
        """Execute the body in one transaction, again when the storage did not answer.

        What the body changes in memory has to be the same however often it is executed. Raises StaleOwner when the
        run is somebody else's by now, StorageUnavailable when patience ends.
        """
        made: list[T] = []

        def once() -> None:
            with self.store.database.transaction() as tx:
                if not count_write(tx, self.hold):
                    if made and stands(tx, self.hold):
                        return
                    raise self._stale(tx)
                hold_execution(tx, self.hold.subject, self._fencing, ALIVE_RUN)
                made.append(body(tx))

        self.patience.keep(once)
        self.hold.written += 1
        return made[-1]

    def read(self, look: Callable[[Transaction], T]) -> T:
        """Execute a body that only reads, again when the storage did not answer."""

        def once() -> T:
            with self.store.database.reading() as tx:
                return look(tx)

        return self.patience.keep(once)

    def _lost(self) -> StaleOwner:
        with self.store.database.reading() as tx:
            return self._stale(tx)

    def _stale(self, tx: Transaction) -> StaleOwner:
        run = get_execution(tx, self.hold.subject)
        if run.fencing != self._fencing and run.state in ALIVE_RUN:
            return StaleOwner(f"The run {run.id} was taken over by {run.owner} with token {run.fencing}.", _MEND)
        said = f" ({run.error})" if run.error else ""
        return StaleOwner(f"The run {run.id} was taken from this process: it is {run.state}{said}.", _MEND)


def claim_once(store: Store, hold: Hold, patience: Patience, claim: Callable[[Transaction], T]) -> T:
    """Make a claim in one transaction; `claim` finds its own work done when the answer to its commit was lost."""

    def once() -> T:
        with store.database.transaction() as tx:
            locked_lease(tx, hold.subject)
            return claim(tx)

    return patience.keep(once)
