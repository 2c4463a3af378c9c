"""The states of runs and steps, and the one table of the moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from tidewheel.errors import Conflict


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "QUEUED"  # wanted, not begun
    RUNNING = "RUNNING"  # a living process works on it
    WAITING = "WAITING"  # it waits for an approval: its process does, or it has left the run (no owner then)
    SUCCEEDED = "SUCCEEDED"  # ended well
    FAILED = "FAILED"  # a step or the body raised
    CANCELLED = "CANCELLED"  # somebody stopped it
    LOST = "LOST"  # its process died; it can be resumed


class StepState(StrEnum):
    """Where one call of a step stands."""

    READY = "READY"  # called; it begins once its inputs and a place are there
    CLAIMED = "CLAIMED"  # an executor took it
    RUNNING = "RUNNING"  # its function is being executed
    COMMITTED = "COMMITTED"  # its outputs are recorded, for good
    FAILED = "FAILED"  # it raised, timed out or was killed, and no retry is left
    WAITING = "WAITING"  # it is a question that nobody has answered yet
    RETRY_AT = "RETRY_AT"  # it failed and is tried again at a recorded time
    LOST = "LOST"  # the process of its run died while it ran
    CANCELLED = "CANCELLED"  # it was stopped because its run ended
    CACHED = "CACHED"  # answered by an earlier execution with the same key
    SKIPPED = "SKIPPED"  # never begun, because an input of it failed


RUN_MOVES: Mapping[RunState, frozenset[RunState]] = MappingProxyType(
    {
        RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED}),
        RunState.RUNNING: frozenset(
            {RunState.WAITING, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.LOST}
        ),
        RunState.WAITING: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED, RunState.LOST}),
        RunState.SUCCEEDED: frozenset(),
        RunState.FAILED: frozenset({RunState.RUNNING}),
        RunState.CANCELLED: frozenset({RunState.RUNNING}),
        RunState.LOST: frozenset({RunState.RUNNING, RunState.CANCELLED}),
    }
)

STEP_MOVES: Mapping[StepState, frozenset[StepState]] = MappingProxyType(
    {
        StepState.READY: frozenset(
            {
                StepState.CLAIMED,
                StepState.RUNNING,
                StepState.WAITING,
                StepState.CACHED,
                StepState.SKIPPED,
                StepState.CANCELLED,
            }
        ),
        StepState.CLAIMED: frozenset({StepState.RUNNING, StepState.LOST, StepState.CANCELLED}),
        StepState.RUNNING: frozenset(
            {StepState.COMMITTED, StepState.FAILED, StepState.RETRY_AT, StepState.LOST, StepState.CANCELLED}
        ),
        StepState.WAITING: frozenset(
            {StepState.WAITING, StepState.COMMITTED, StepState.LOST, StepState.CANCELLED}
        ),  # the process that asked may leave; another one goes on waiting
        StepState.COMMITTED: frozenset(),
        StepState.CACHED: frozenset(),
        StepState.FAILED: frozenset({StepState.RUNNING, StepState.CACHED}),
        StepState.RETRY_AT: frozenset({StepState.RUNNING, StepState.LOST, StepState.CANCELLED}),
        StepState.LOST: frozenset(
            {StepState.RUNNING, StepState.WAITING, StepState.COMMITTED, StepState.CACHED, StepState.CANCELLED}
        ),
        StepState.CANCELLED: frozenset({StepState.RUNNING, StepState.WAITING, StepState.CACHED}),
        StepState.SKIPPED: frozenset({StepState.RUNNING, StepState.CACHED, StepState.SKIPPED}),
    }
)

ENDED_RUN = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})  # no process should work on it
ALIVE_RUN = frozenset({RunState.RUNNING, RunState.WAITING})  # a process claims to work on it
DONE_STEP = frozenset({StepState.COMMITTED, StepState.CACHED})  # has outputs; is never executed again in its run
OPEN_STEP = frozenset(  # not ended yet
    {StepState.READY, StepState.CLAIMED, StepState.RUNNING, StepState.WAITING, StepState.RETRY_AT}
)


def move_run(now: RunState, to: RunState) -> RunState:
    """Return the new state of a run, or raise Conflict when the table does not allow the move."""
    if to not in RUN_MOVES[now]:
        raise Conflict(f"A run that is {now} cannot become {to}.", _possible(RUN_MOVES[now]))
    return to


def move_step(now: StepState, to: StepState) -> StepState:
    """Return the new state of a step, or raise Conflict when the table does not allow the move."""
    if to not in STEP_MOVES[now]:
        raise Conflict(f"A step that is {now} cannot become {to}.", _possible(STEP_MOVES[now]))
    return to


def _possible(moves: frozenset[RunState] | frozenset[StepState]) -> str:
    return f"It can become {', '.join(sorted(moves))}." if moves else "That is its last state."
