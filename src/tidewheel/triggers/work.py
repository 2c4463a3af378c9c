"""Do the runs that wait: whoever claims one does it; one whose process died is taken up by the next."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from tidewheel.errors import AlreadyRunning, Conflict, RunFailed, StepFailed, StorageUnavailable, TidewheelError
from tidewheel.lineage.read import get_execution
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.approvals import can_go_on
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.locks import owner_is_dead
from tidewheel.pipelines.runs import Run, cancel_run, get_run, resume_run, start_run
from tidewheel.pipelines.transitions import RunState
from tidewheel.triggers.fire import open_runs
from tidewheel.triggers.schedule import Schedule, arguments

_TO_DO = (RunState.QUEUED, RunState.LOST)
_LEFT = RunState.WAITING  # for people
logger = logging.getLogger("tidewheel.triggers")


def work(
    store: Store, schedules: Sequence[Schedule], *, executor: str = "inline", stop: threading.Event | None = None
) -> list[Run]:
    """Do the runs of these schedules that wait, oldest first, one after the other; return those that were done here.

    A run that waits for people holds up nobody: it is left, returned as WAITING, and gone on with once it is answered.

    Other processes may work at the same time: a run is done by the one that claims it. How a run ended is in its
    record; its failure stops nobody. Raises StorageUnavailable where nothing can be claimed.
    """
    mark_lost(store)
    done: list[Run] = []
    for schedule in schedules:
        for run_id in _waiting(store, schedule):
            if stop is not None and stop.is_set():
                return done
            found = _do(store, schedule, run_id, executor)
            done += [found] if found is not None else []
        _settle(store, schedule)
    return done


def _waiting(store: Store, schedule: Schedule) -> list[str]:
    with store.database.reading() as tx:
        found = open_runs(tx, schedule.name)
    return [run_id for run_id, state in found if state in _TO_DO or (state == _LEFT and can_go_on(store, run_id))]


def _do(store: Store, schedule: Schedule, run_id: str, executor: str) -> Run | None:
    with owner_is_dead(store.home, run_id) as free:
        if not free:
            return None  # a process of this machine does it; waiting for its lock would hold up the other runs
    with store.database.reading() as tx:
        run = get_execution(tx, run_id)
    try:
        if run.state == RunState.QUEUED:
            return _begin(store, schedule, run, executor)
        if run.state == _LEFT or (run.state == RunState.LOST and _may_go_on(store, schedule, run)):
            return resume_run(store, run_id, schedule.pipeline, executor=executor, leave=True)
    except StorageUnavailable:
        raise
    except (AlreadyRunning, Conflict) as error:
        logger.info("%s: %s", schedule.name, error)  # somebody else has claimed it
    except (StepFailed, RunFailed) as error:
        logger.warning("%s: %s", schedule.name, error)
        return get_run(store, run_id)
    except TidewheelError as error:
        return _give_up(store, schedule, run_id, error)
    return None


def _begin(store: Store, schedule: Schedule, run: Execution, executor: str) -> Run:
    cause = run.facets["cause"]
    return start_run(
        store,
        schedule.pipeline,
        arguments(schedule, cause["event"]),
        cause=cause,
        executor=executor,
        queued=run.id,
        leave=True,
    )


def _may_go_on(store: Store, schedule: Schedule, run: Execution) -> bool:
    """Say whether a run whose process died is taken up again; one that kills every process is given up."""
    died = int(run.facets.get("resumed", 0)) + 1
    if died < schedule.attempts:
        return True
    cancel_run(store, run.id, reason=f"{died} processes died of it")
    return False


def _give_up(store: Store, schedule: Schedule, run_id: str, error: TidewheelError) -> Run | None:
    """End a run that could not even begin, so that it does not wait for ever."""
    logger.warning("%s: %s", schedule.name, error)
    found = get_run(store, run_id)
    return cancel_run(store, run_id, reason=error.what) if found.state == RunState.QUEUED else found


def _settle(store: Store, schedule: Schedule) -> None:
    """Remember which runs have ended, so that nobody asks for them again."""
    with store.database.reading() as tx:
        ended = tx.rows(
            "SELECT f.run_id FROM trigger_fired f JOIN execution e ON e.id = f.run_id"
            " WHERE f.name = :name AND f.done = :done AND e.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')",
            name=schedule.name,
            done=False,
        )
    if not ended:
        return
    with store.database.transaction() as tx:
        for row in ended:
            tx.run(
                "UPDATE trigger_fired SET done = :done WHERE name = :name AND run_id = :run_id",
                done=True,
                name=schedule.name,
                run_id=row["run_id"],
            )
