"""The table of moves: complete, closed, and kept to by every walk."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tidewheel.errors import Conflict
from tidewheel.pipelines.transitions import (
    ALIVE_RUN,
    DONE_STEP,
    ENDED_RUN,
    OPEN_STEP,
    RUN_MOVES,
    STEP_MOVES,
    RunState,
    StepState,
    move_run,
    move_step,
)


def test_every_state_has_a_row() -> None:
    assert set(RUN_MOVES) == set(RunState)
    assert set(STEP_MOVES) == set(StepState)


def test_what_is_done_stays_done() -> None:
    assert {state for state, moves in RUN_MOVES.items() if not moves} == {RunState.SUCCEEDED}
    assert {state for state, moves in STEP_MOVES.items() if not moves} == DONE_STEP


def test_every_run_that_has_not_succeeded_can_still_succeed() -> None:
    for state in set(RunState) - {RunState.SUCCEEDED}:
        assert RunState.SUCCEEDED in _reachable(state)


def test_every_open_step_can_be_lost_or_never_began() -> None:
    for state in OPEN_STEP - {StepState.READY}:
        assert StepState.LOST in STEP_MOVES[state]
    for alive in ALIVE_RUN:
        assert RunState.LOST in RUN_MOVES[alive]


def _reachable(state: RunState) -> set[RunState]:
    found, waiting = {state}, [state]
    while waiting:
        new = RUN_MOVES[waiting.pop()] - found
        found |= new
        waiting += new
    return found


@pytest.mark.parametrize(
    ("now", "to", "hint"),
    [
        (RunState.SUCCEEDED, RunState.RUNNING, "last state"),
        (RunState.LOST, RunState.SUCCEEDED, "CANCELLED, RUNNING"),
    ],
)
def test_move_run_refuses_what_the_table_does_not_allow(now: RunState, to: RunState, hint: str) -> None:
    with pytest.raises(Conflict, match=hint):
        move_run(now, to)


def test_move_step_refuses_what_the_table_does_not_allow() -> None:
    with pytest.raises(Conflict, match="COMMITTED cannot become RUNNING"):
        move_step(StepState.COMMITTED, StepState.RUNNING)


class Walk(RuleBasedStateMachine):
    """A run and a step of it moved at random: a refused move changes nothing, a done one is never left."""

    def __init__(self) -> None:
        super().__init__()
        self.run, self.step = RunState.QUEUED, StepState.READY
        self.was_done = False

    @rule(to=st.sampled_from(list(RunState)))
    def move_the_run(self, to: RunState) -> None:
        try:
            self.run = move_run(self.run, to)
        except Conflict:
            assert to not in RUN_MOVES[self.run]

    @rule(to=st.sampled_from(list(StepState)))
    def move_the_step(self, to: StepState) -> None:
        try:
            self.step = move_step(self.step, to)
        except Conflict:
            assert to not in STEP_MOVES[self.step]

    @invariant()
    def done_is_for_good(self) -> None:
        self.was_done = self.was_done or self.step in DONE_STEP
        assert not self.was_done or self.step in DONE_STEP
        assert not (self.run in ENDED_RUN and self.run in ALIVE_RUN)


TestWalk = Walk.TestCase
