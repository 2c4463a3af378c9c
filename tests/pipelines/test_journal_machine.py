"""The journal of a real run walked at random: no move outside the table, nothing done twice, nothing done undone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.conftest import POSTGRES

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import ManualClock, new_id
from tidewheel.database.database import open_database
from tidewheel.database.migrate import prepare
from tidewheel.errors import Conflict, StaleOwner, TidewheelError
from tidewheel.fingerprint.code import CodeDigest
from tidewheel.fingerprint.environment import capture_environment
from tidewheel.lineage.read import list_executions
from tidewheel.lineage.store import Store
from tidewheel.pipelines.calls import Call, Output
from tidewheel.pipelines.entries import Done
from tidewheel.pipelines.journal import Journal, Opening, lose, nothing, open_run, reopen_run
from tidewheel.pipelines.keys import Key
from tidewheel.pipelines.leases import locked_lease
from tidewheel.pipelines.locks import place_at
from tidewheel.pipelines.patience import Patience
from tidewheel.pipelines.prior import Prior
from tidewheel.pipelines.runs import cancel_run
from tidewheel.pipelines.step import step
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.transitions import ALIVE_RUN, DONE_STEP, OPEN_STEP, RUN_MOVES, STEP_MOVES, RunState, StepState
from tidewheel.pipelines.tree import encode

KEYS = ["a" * 64, "b" * 64, "c" * 64]


@step
def work(x: int) -> int:
    return x


class JournalMachine(RuleBasedStateMachine):
    """One run: its present owner and earlier ones (who have lost it) try whatever they like.

    The model is a set of facts: which calls are done, with what, and in which state the run is.
    """

    calls: Bundle[Call] = Bundle("calls")
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tidewheel-machine-"))
        database = open_database(self.url or f"sqlite:///{self.folder / 'tidewheel.db'}")
        prepare(database, import_tables)
        blobs = FolderBlobs(self.folder / "blobs")
        self.store = Store(database=database, blobs=blobs, clock=ManualClock(), home=self.folder)
        self.shelf = Shelf(blobs=blobs, files=self.folder / "files")
        self.stale: list[Journal] = []
        self.made: list[Call] = []
        self.done: dict[str, Any] = {}
        self.last: dict[str, str] = {}
        self.run_state = RunState.RUNNING
        self.seen_run = RunState.RUNNING

    @initialize()
    def open(self) -> None:
        place = place_at(self.store.home)
        opening = Opening(
            pipeline="machine",
            code="",
            environment=capture_environment(),
            parameters={},
            facets={"arguments": {}, "pins": {}, "cause": {}, "resumed": 0, **place.facets()},
            arguments={},
            used={},
        )
        self.journal, self.run = open_run(self.store, new_id(), opening, nothing, Patience(0))

    @rule(target=calls, key=st.sampled_from(KEYS), reusable=st.booleans())
    def call(self, key: str, *, reusable: bool) -> Call:
        return self._made(key, reusable=reusable)

    def _made(self, key: str, *, reusable: bool) -> Call:
        number = len(self.made) + 1
        call = Call(step=work, arguments={}, ordinal=number, label=f"work-{number}", occurrence=number)
        call.key = Key(
            digest=key,
            code=CodeDigest(digest="c", parts={}),
            besides={},
            inputs={},
            reusable=reusable,
            note="",
        )
        call.outputs = (Output(self.shelf, call=call),)
        self.made.append(call)
        return call

    @rule(call=calls)
    def start(self, call: Call) -> None:
        with self._may_refuse(call, StepState.RUNNING) as may:
            call.seen_answer = self._answer_of(call)
            if self.journal.start(call) is None:
                call.state = StepState.RUNNING
                may.append(True)

    @rule(calls=st.lists(calls, min_size=1, max_size=3, unique_by=id), value=st.integers())
    def commit(self, calls: list[Call], value: int) -> None:
        stored = encode(value, self.shelf)
        allowed = all(StepState.COMMITTED in STEP_MOVES[call.state] and call.recorded for call in calls)
        try:
            given = [
                Done(call=call, outputs=(stored,), reusable=call.key is not None and call.key.reusable)
                for call in calls
            ]
            self.journal.commit(given)
        except TidewheelError:
            assert not allowed or self.run_state not in ALIVE_RUN
            return
        assert allowed
        assert self.run_state in ALIVE_RUN
        for call in calls:
            call.state = StepState.COMMITTED
            self.done[call.execution_id] = stored.content

    @precondition(lambda self: self.run_state in ALIVE_RUN)
    @rule(key=st.sampled_from(KEYS), value=st.integers(), commits=st.booleans())
    def work_off(self, key: str, value: int, *, commits: bool) -> None:
        """Do what is allowed: begin a call that may be answered elsewhere, and mostly end it well."""
        call = self._made(key, reusable=True)
        self.start(call)
        if commits and call.recorded:
            self.commit([call], value)

    @rule(call=calls, state=st.sampled_from([StepState.FAILED, StepState.RETRY_AT]))
    def conclude(self, call: Call, state: StepState) -> None:
        with self._may_refuse(call, state, recorded=True):
            self.journal.conclude(call, state, "no")
            call.state = state

    @rule(call=calls)
    def _skip(self, call: Call) -> None:
        with self._may_refuse(call, StepState.SKIPPED):
            self.journal.skip([call])
            call.state = StepState.SKIPPED

    @rule(call=calls, value=st.integers())
    def answer(self, call: Call, value: int) -> None:
        stored, key = encode(value, self.shelf), call.key
        with self._may_refuse(call, StepState.CACHED):
            self.journal.answer(Done(call=call, outputs=(stored,)))
            self.journal.flush()
            call.key = key  # a run lets go of what is done; here it is tried again and again
            call.state = StepState.CACHED
            self.done[call.execution_id] = stored.content

    @precondition(lambda self: len(self.made) > 3 or self.run_state not in ALIVE_RUN)
    @rule(state=st.sampled_from([RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED]))
    def finish(self, state: RunState) -> None:
        try:
            self.journal.finish(state)
        except Conflict:
            assert self.run_state not in ALIVE_RUN or state not in RUN_MOVES[self.run_state]
            return
        self._ended(state, StepState.CANCELLED)

    @rule()
    def _cancel(self) -> None:
        try:
            cancel_run(self.store, self.run.id)
        except Conflict:
            assert RunState.CANCELLED not in RUN_MOVES[self.run_state]
            return
        self.stale.append(self.journal)
        self._ended(RunState.CANCELLED, StepState.CANCELLED)

    @precondition(lambda self: self.run_state in ALIVE_RUN)
    @rule()
    def _die(self) -> None:
        """Find the owner dead, as the next start or tick does."""
        with self.store.database.transaction() as tx:
            locked_lease(tx, self.run.id)
            (run,) = list_executions(tx, "run")
            lose(tx, run, self.store.clock.now())
        self.stale.append(self.journal)
        self._ended(RunState.LOST, StepState.LOST)

    @precondition(lambda self: self.run_state is not RunState.SUCCEEDED)
    @rule()
    def resume(self) -> None:
        """Claim the run, dead or alive, as a process does that has its lock; calls are made anew and found again."""
        self.stale.append(self.journal)
        self.journal, self.run, rows = reopen_run(self.store, self.run.id, nothing, Patience(0))
        if self.run_state in ALIVE_RUN:
            self._ended(RunState.LOST, StepState.LOST)
        self.run_state = RunState.RUNNING
        prior = Prior(rows, self.store.blobs)
        for call in self.made:
            earlier = prior.find(call.key.digest, call.occurrence) if call.key else None
            earlier = earlier or prior.skipped(work.identity, call.ordinal)
            if earlier is None:
                call.state, call.recorded, call.execution_id = StepState.READY, False, ""
                continue
            assert earlier.execution_id == call.execution_id
            assert earlier.state == call.state
            assert earlier.done == (call.execution_id in self.done)

    @precondition(lambda self: bool(self.stale))
    @rule(data=st.data())
    def _zombie(self, data: st.DataObject) -> None:
        """Let somebody write who has lost the run: whatever it tries, nothing is kept."""
        before = self._rows()
        journal = data.draw(st.sampled_from(self.stale))
        call = self._made("z" * 64, reusable=True)
        self.made.remove(call)
        with pytest.raises(StaleOwner):
            journal.start(call)
        with pytest.raises(TidewheelError):
            journal.finish(RunState.FAILED)
        assert self._rows() == before

    @invariant()
    def the_rows_are_what_was_told(self) -> None:
        if not hasattr(self, "journal"):
            return
        rows = self._rows()
        (run,) = [row for row in rows.values() if row.kind == "run"]
        assert run.state == self.run_state
        assert self.run_state is self.seen_run or _reaches(self.seen_run, self.run_state)
        self.seen_run = self.run_state
        for call in self.made:
            row = rows.get(call.execution_id)
            if row is None:
                assert not call.recorded
                continue
            assert row.state == call.state
            before = self.last.get(row.id)
            assert (
                before in (None, row.state)
                or row.state in STEP_MOVES[StepState(before)]
                or self._by_way_of(before, row.state)
            )
            self.last[row.id] = row.state
        for execution_id, content in self.done.items():
            assert rows[execution_id].state in DONE_STEP
            assert rows[execution_id].facets["outputs"][0]["content"] == content
        if self.run_state not in ALIVE_RUN:
            assert not [row for row in rows.values() if row.kind == "step" and row.state in OPEN_STEP]
            with self.store.database.reading() as tx:
                assert tx.rows("SELECT * FROM step_flight") == []

    def _by_way_of(self, before: str, after: str) -> bool:
        """Say whether two moves in one rule explain it: a live run that is claimed loses its calls first."""
        return any(after in STEP_MOVES[middle] for middle in STEP_MOVES[StepState(before)])

    def _rows(self) -> dict[str, Any]:
        with self.store.database.reading() as tx:
            return {row.id: row for row in list_executions(tx, limit=10_000)}

    def _answer_of(self, call: Call) -> str:
        from tidewheel.pipelines.cache import answered_by

        with self.store.database.reading() as tx:
            return answered_by(tx, call.key.digest) if call.key else ""

    @contextmanager
    def _may_refuse(self, call: Call, to: StepState, *, recorded: bool = False) -> Iterator[list[bool]]:
        """Expect a refusal exactly where the table, the run's state or a missing row calls for one."""
        allowed = to in STEP_MOVES[call.state] and (call.recorded or not recorded) and self.run_state in ALIVE_RUN
        fresh = not call.recorded
        try:
            yield []
        except TidewheelError:
            assert not allowed
            if fresh:
                call.execution_id = ""
                self.journal._answered.clear()
        else:
            assert allowed

    def _ended(self, state: RunState, calls: StepState) -> None:
        for call in self.made:
            if call.recorded and call.state in OPEN_STEP:
                call.state = calls
        self.run_state = state

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _reaches(before: RunState, after: RunState) -> bool:
    found, waiting = {before}, [before]
    while waiting:
        new = set(RUN_MOVES[waiting.pop()]) - found
        found |= new
        waiting += new
    return after in found


def test_the_journal_on_sqlite() -> None:
    quick = settings(max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(JournalMachine, settings=quick)


@pytest.mark.services
def test_the_journal_on_postgresql(postgres_url: str) -> None:
    class OnPostgres(JournalMachine):
        url = postgres_url

        def __init__(self) -> None:
            admin = open_database(POSTGRES).engine.execution_options(isolation_level="AUTOCOMMIT")
            self.name = f"tidewheel_{new_id().replace('-', '')}"
            with admin.connect() as connection:
                connection.execute(sa.text(f"CREATE DATABASE {self.name}"))
            self.admin = admin
            OnPostgres.url = POSTGRES.rsplit("/", 1)[0] + f"/{self.name}"
            super().__init__()

        def teardown(self) -> None:
            super().teardown()
            with self.admin.connect() as connection:
                connection.execute(sa.text(f"DROP DATABASE {self.name} WITH (FORCE)"))
            self.admin.dispose()

    few = settings(max_examples=6, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(OnPostgres, settings=few)
