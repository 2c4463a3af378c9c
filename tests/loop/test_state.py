"""The one row of a loop: two writers, one winner."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tidewheel.lineage.store import Store
from tidewheel.loop.state import Claim, Held, LoopState, Overtaken, Running, load_state
from tidewheel.loop.tables import loop_state

RUNNING = Running(trigger="manual", key="manual:1", reason="", owner="here", since=1, dataset="orchard:1")


def claim_of(store: Store) -> Claim:
    """Read the state."""
    with store.database.reading() as tx:
        return Claim(store, "apples", load_state(tx, "apples"))


def test_of_two_writers_one_wins_and_nothing_of_the_other_is_kept(any_store: Store) -> None:
    for _ in range(2):  # the first state, and the one that follows it
        one, other = claim_of(any_store), claim_of(any_store)
        one.move(labelled=one.state.labelled + 1)
        with pytest.raises(Overtaken), other.moving(labelled=99) as tx:
            tx.execute(sa.delete(loop_state))
    assert claim_of(any_store).state.labelled == 2


def test_a_failed_block_leaves_state_and_claim_as_they_were(any_store: Store) -> None:
    claim = claim_of(any_store)
    claim.move(labelled=1)
    with pytest.raises(ZeroDivisionError), claim.moving(labelled=2):
        raise ZeroDivisionError
    assert claim.state.labelled == 1
    claim.move(labelled=3)
    assert claim_of(any_store).state.labelled == 3


def test_the_block_can_add_what_it_learns(any_store: Store) -> None:
    claim = claim_of(any_store)
    with claim.moving(labelled=5) as tx:
        claim.add(tx, running=RUNNING)
    assert claim_of(any_store).held == claim.held
    assert claim.state == LoopState(labelled=5, running=RUNNING)
    claim.move(labelled=6)


def test_the_same_state_is_not_written(store: Store) -> None:
    claim = claim_of(store)
    claim.move(labelled=5)
    before = claim.held
    claim.move(labelled=5)
    assert claim.held == before == claim_of(store).held
    assert before.revision == 1


def test_a_loop_that_never_ran_has_an_empty_state(any_store: Store) -> None:
    assert claim_of(any_store).held == Held(revision=0, state=LoopState())
