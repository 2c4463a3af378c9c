"""A thread that renews the lease of a run while it goes on, and notices when the run is no longer its process's."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tidewheel.errors import StaleOwner, StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.pipelines.leases import Hold, database_micros, find_lease, give_back, grant, new_hold, renew

_LOOK = 1.0  # seconds between two looks whether the lease is still ours: so soon a run from elsewhere cancelled ends
_GRACE = 1.0  # seconds for the thread of the run to notice by itself, before a step that it executes is interrupted


class Keeper:
    """Keeps one lease alive; `lost` holds the error once somebody else has it.

    `explain` says who has it now. Where the thread that works does not ask `check` in time, it executes a step of the
    user's, which is interrupted as by Ctrl-C; in another thread than the main one, at its next line of Python.
    """

    def __init__(self, store: Store, hold: Hold, explain: Callable[[], StaleOwner], *, interrupts: bool = True) -> None:
        self.lost: StaleOwner | None = None
        self._store = store
        self._hold = hold
        self._explain = explain
        self._interrupts = interrupts
        self._noticed = threading.Event()
        self._over = threading.Event()
        self._gate = threading.Lock()
        self._worker = threading.current_thread()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{hold.subject}", daemon=True)

    def check(self) -> None:
        """Raise StaleOwner once the lease is lost."""
        if self.lost is not None:
            self._noticed.set()
            raise self.lost

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Renew until the block ends; raises StaleOwner in place of the interrupt when the lease was lost."""
        self._thread.start()
        try:
            try:
                yield
            finally:
                with self._gate:  # no interrupt comes after this
                    self._over.set()
        except KeyboardInterrupt:
            if self.lost is None:
                raise
            raise self.lost from None

    def _keep(self) -> None:
        turns = max(1, int(self._hold.seconds / 3 / self._look()))
        turn = 0
        while not self._over.wait(self._look()):
            turn += 1
            try:
                if self._renewed() if turn % turns == 0 else self._still_ours():
                    continue
                lost = self._explain()
            except StorageUnavailable:
                continue  # whoever works waits for it too; the lease may run out, and the fence holds
            self._end(lost)
            return

    def _look(self) -> float:
        return min(_LOOK, self._hold.seconds / 4)

    def _renewed(self) -> bool:
        with self._store.database.transaction() as tx:
            return renew(tx, self._hold, self._store.clock)

    def _still_ours(self) -> bool:
        with self._store.database.reading() as tx:
            lease = find_lease(tx, self._hold.subject)
        return lease is not None and lease.holder == self._hold.holder

    def _end(self, lost: StaleOwner) -> None:
        if self._over.is_set():
            return
        self.lost = lost
        if not self._interrupts or self._noticed.wait(_GRACE):
            return
        with self._gate:
            if not self._over.is_set() and not self._noticed.is_set():
                _interrupt(self._worker)


def _interrupt(thread: threading.Thread) -> None:
    """Raise KeyboardInterrupt in a thread; a signal also ends what the main thread waits for in the kernel."""
    number = thread.ident or 0
    if thread is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.pthread_kill(number, signal.SIGINT)
    else:
        import ctypes  # takes milliseconds, for what hardly ever happens

        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(number), ctypes.py_object(KeyboardInterrupt))


@contextmanager
def lease_kept(store: Store, subject: str) -> Iterator[None]:
    """Hold a lease on something while the block lasts, and give it back.

    It says to others that this process lives. Who loses it is not interrupted: what is written is fenced otherwise.
    """
    hold = new_hold(subject, store.lease_seconds)
    with store.database.transaction() as tx:
        grant(tx, hold, store.clock)

    def explain() -> StaleOwner:
        return StaleOwner(f"Another process holds {subject} by now.", "Nothing is lost: that one goes on.")

    with Keeper(store, hold, explain, interrupts=False).keeping():
        yield
    with suppress(StorageUnavailable), store.database.transaction() as tx:
        give_back(tx, hold)


def lease_lasts(store: Store, subject: str) -> bool:
    """Say whether somebody holds a lease that has not run out."""
    with store.database.reading() as tx:
        lease = find_lease(tx, subject)
        return lease is not None and bool(lease.holder) and lease.until > database_micros(tx, store.clock)
