"""Two controllers claim, write, renew, cancel, die and sleep in every order: the real journal against a small model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tidewheel.clock import ManualClock, new_id
from tidewheel.database.database import open_database
from tidewheel.database.transaction import Transaction
from tidewheel.errors import AlreadyRunning, Conflict, StaleOwner
from tidewheel.fingerprint.environment import capture_environment
from tidewheel.lineage.read import get_execution
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event
from tidewheel.pipelines.journal import Journal, Opening, nothing, open_run, reopen_run
from tidewheel.pipelines.leases import renew
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.locks import place_at, run_lock
from tidewheel.pipelines.patience import Patience
from tidewheel.pipelines.runs import cancel_run
from tidewheel.pipelines.transitions import ALIVE_RUN, RunState

PATIENCE = Patience(0.0)


@dataclass(eq=False)
class Owner:
    """A process, as far as it matters: where it lives, its journal, and its lock while it lives."""

    home: int
    journal: Journal
    lock: ExitStack = field(default_factory=ExitStack)
    alive: bool = True


class Controllers(RuleBasedStateMachine):
    """One run; the model is its state, its owner, and what was written."""

    owners = Bundle("owners")

    def __init__(self, stores: tuple[Store, Store]) -> None:
        super().__init__()
        self.stores = stores
        self.run_id = new_id()
        self.state = RunState.QUEUED
        self.owner: Owner | None = None
        self.holder: Owner | None = None  # whose the lease is: also after it has ended the run itself
        self.home = 0  # where the last owner lived
        self.run_out = False  # whether the lease has run out
        self.written: list[int] = []
        self.token = 0
        self.made: list[Owner] = []

    @precondition(lambda self: self.state is RunState.QUEUED)
    @rule(target=owners, home=st.integers(0, 1))
    def open(self, home: int) -> Owner:
        store = self.stores[home]
        lock = ExitStack()
        lock.enter_context(run_lock(store.home, self.run_id))
        opening = Opening(
            pipeline="flow",
            code="",
            environment=capture_environment(),
            parameters={},
            facets={"arguments": {}, "pins": {}, "given": {}, "cause": {}, **place_at(store.home).facets()},
            arguments={},
            used={},
        )
        return self._own(home, open_run(store, self.run_id, opening, nothing, PATIENCE)[0], lock)

    @precondition(lambda self: self.state not in (RunState.QUEUED, RunState.SUCCEEDED))
    @rule(target=owners, home=st.integers(0, 1))
    def resume(self, home: int) -> Owner:
        """Claim the run, as `resume` does; a refusal gives an owner that never had it."""
        store = self.stores[home]
        if any(owner.alive and owner.home == home for owner in self.made):
            return self.made[-1]  # its lock is held, as test_runs shows; here that would only take time
        free = self.state not in ALIVE_RUN or home == self.home or self.run_out
        lock = ExitStack()
        lock.enter_context(run_lock(store.home, self.run_id))
        if not free:
            with pytest.raises(AlreadyRunning), lock:
                reopen_run(store, self.run_id, nothing, PATIENCE)
            return self.made[-1]
        return self._own(home, reopen_run(store, self.run_id, nothing, PATIENCE)[0], lock)

    def _own(self, home: int, journal: Journal, lock: ExitStack) -> Owner:
        self.owner = self.holder = Owner(home, journal, lock)
        self.made.append(self.owner)
        self.state, self.home, self.run_out = RunState.RUNNING, home, False
        self.token += 1
        return self.owner

    @rule(owner=owners, number=st.integers())
    def write(self, owner: Owner, number: int) -> None:
        """Let any process that lives try to write, however long ago it lost the run."""
        if not owner.alive:
            return

        def body(tx: Transaction) -> None:
            at = self.stores[0].clock.now()
            append_event(tx, "proof", {"number": str(number)}, at=at, subject_id=self.run_id)

        if self._owns(owner):
            owner.journal.fence.write(body)
            self.written.append(number)
        else:
            with pytest.raises(StaleOwner, match=r"taken (over|from this process)|not held with token"):
                owner.journal.fence.write(body)

    @rule(owner=owners)
    def renew(self, owner: Owner) -> None:
        if not owner.alive:
            return
        store = self.stores[owner.home]
        with store.database.transaction() as tx:
            assert renew(tx, owner.journal.fence.hold, store.clock) is (owner is self.holder)
        self.run_out = self.run_out and owner is not self.holder

    @rule(owner=owners, state=st.sampled_from([RunState.SUCCEEDED, RunState.FAILED]))
    def finish(self, owner: Owner, state: RunState) -> None:
        if not owner.alive:
            return
        if not self._owns(owner):
            with pytest.raises((StaleOwner, Conflict)):
                owner.journal.finish(state)
            return
        owner.journal.finish(state)
        self.state, self.owner = state, None

    @rule(owner=consumes(owners))
    def die(self, owner: Owner) -> None:
        """Let a process be killed: the kernel frees its lock."""
        owner.alive = False
        owner.lock.close()

    @precondition(lambda self: self.state is not RunState.QUEUED)
    @rule()
    def sleep(self) -> None:
        """Let more time pass than a lease lasts, without a renewal."""
        clock = self.stores[0].clock
        assert isinstance(clock, ManualClock)
        clock.advance(timedelta(seconds=61))
        with self.stores[0].database.transaction() as tx:
            if tx.dialect == "postgresql":  # its clock is its own: move the end instead
                tx.run("UPDATE lease SET until = until - 61000000 WHERE subject = :run", run=self.run_id)
        self.run_out = True

    @precondition(lambda self: self.state is not RunState.QUEUED)
    @rule(home=st.integers(0, 1))
    def look(self, home: int) -> None:
        """Judge from a home whether the owner lives."""
        dead = self.owner is not None and not self.owner.alive if home == self.home else self.run_out
        lost = self.state in ALIVE_RUN and dead
        assert (self.run_id in mark_lost(self.stores[home])) is lost
        if lost:
            self.state, self.owner, self.holder = RunState.LOST, None, None

    @precondition(lambda self: self.state is not RunState.QUEUED)
    @rule(home=st.integers(0, 1))
    def cancel(self, home: int) -> None:
        if self.state in ALIVE_RUN | {RunState.LOST}:
            cancel_run(self.stores[home], self.run_id)
            self.state, self.owner, self.holder = RunState.CANCELLED, None, None
            self.token += 1
        else:
            with pytest.raises(Conflict):
                cancel_run(self.stores[home], self.run_id)

    @precondition(lambda self: self.state is not RunState.QUEUED)
    @invariant()
    def the_journal_says_what_the_model_says(self) -> None:
        with self.stores[1].database.reading() as tx:
            run = get_execution(tx, self.run_id)
            query = "SELECT body FROM event WHERE type = 'proof' AND subject_id = :run ORDER BY seq"
            written = [row["body"] for row in tx.rows(query, run=self.run_id)]
        assert (run.state, run.fencing) == (self.state, self.token)
        assert written == [f'{{"number":"{number}"}}' for number in self.written]

    def _owns(self, owner: Owner) -> bool:
        return owner is self.owner and self.state in ALIVE_RUN

    def teardown(self) -> None:
        for owner in self.made:
            owner.lock.close()
        with contextlib.suppress(Conflict):  # so that the next example begins with no run that goes on
            if self.state is not RunState.QUEUED:
                cancel_run(self.stores[0], self.run_id)


@pytest.fixture
def stores(any_store: Store, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Two homes on one database, each with connections of its own."""
    one = replace(any_store, home=tmp_path / "one")
    url = any_store.database.engine.url.render_as_string(hide_password=False)
    other = open_database(url.replace("postgresql+psycopg", "postgresql"))
    yield one, replace(any_store, home=tmp_path / "two", database=other)
    other.close()


def test_every_interleaving_keeps_to_the_model(stores: tuple[Store, Store]) -> None:
    class OnStores(Controllers):
        """The machine, on the database at hand."""

        def __init__(self) -> None:
            super().__init__(stores)

    run_state_machine_as_test(
        OnStores,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        ),
    )
