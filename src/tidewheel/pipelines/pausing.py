"""What the journal of a run records while the run waits for people instead of executors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tidewheel.database.transaction import Transaction
from tidewheel.lineage.claim import describe_execution
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.entries import Done
from tidewheel.pipelines.journal import Journal
from tidewheel.pipelines.transitions import RunState, StepState, move_run, move_step


def enter(journal: Journal, tx: Transaction, call: Call, at: datetime, facets: Mapping[str, Any]) -> None:
    """Write the row of a question, or take up the one that an earlier process left; the run waits."""
    journal.entries.enter(tx, call, StepState.WAITING, at)
    describe_execution(tx, call.execution_id, facets)
    _turn(journal, tx, RunState.WAITING)


def close(journal: Journal, tx: Transaction, done: Done, at: datetime, facets: Mapping[str, Any]) -> None:
    """Write the end of a question; the run goes on."""
    move_step(done.call.state, StepState.COMMITTED)
    journal.entries.commit(tx, done, at)
    describe_execution(tx, done.call.execution_id, facets)
    _turn(journal, tx, RunState.RUNNING)


def leave(journal: Journal) -> None:
    """Record that this process leaves a run that waits: it has no owner, and any process may go on with it."""
    journal.flush()

    def body(tx: Transaction, at: datetime) -> None:
        tx.run("UPDATE execution SET owner = '' WHERE id = :id", id=journal.run_id)
        journal.entries.event(tx, "run.left", {}, at, journal.run_id)

    journal.write("run.leave", body)


def _turn(journal: Journal, tx: Transaction, state: RunState) -> None:
    """Write the state of the run; `journal.state` is set by the caller, after the transaction."""
    move_run(journal.state, state)
    tx.run("UPDATE execution SET state = :state WHERE id = :id", state=state, id=journal.run_id)
