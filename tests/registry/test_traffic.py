"""Traffic changes by rows that only grow; rollbacks and races end in a known state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.graph import graph
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.registry.aliases import current_aliases, set_alias
from tidewheel.registry.promotion import promote, rollback
from tidewheel.registry.tables import deployment
from tidewheel.registry.traffic import Traffic, current_traffic, rollback_traffic, set_traffic, traffic_history
from tidewheel.registry.versions import get_model

if TYPE_CHECKING:
    from tests.registry.conftest import PassTime


def move(store: Store, champion: int, challenger: int | None = None, share: float = 0.0, **given: Any) -> Traffic:
    return set_traffic(
        store, "bikes", champion=champion, challenger=challenger, share=share, by="ann", reason="test", **given
    )


def test_newest_row_holds_and_all_are_kept(any_bikes: Store) -> None:
    first = move(any_bikes, 1)
    second = move(any_bikes, 1, 2, 0.05, paired=True, fault=0.01)
    assert current_traffic(any_bikes, "bikes") == second
    assert traffic_history(any_bikes, "bikes") == [second, first]
    assert traffic_history(any_bikes, "bikes", limit=1) == [second]
    assert (second.seq, second.share, second.paired, second.fault) == (2, 0.05, True, 0.01)


def test_growing_canary_keeps_its_salt_and_a_new_one_gets_another(bikes: Store) -> None:
    move(bikes, 1)
    salts = [move(bikes, 1, 2, share).salt for share in (0.05, 0.25, 1.0)]
    other = move(bikes, 1, 3, 0.05).salt
    again = move(bikes, 1, 2, 0.05).salt
    assert len(set(salts)) == 1
    assert len({salts[0], other, again}) == 3
    assert move(bikes, 1, 2, 0.5, salt="mine").salt == "mine"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"challenger": 2, "share": 1.5}, "share = 1.5 is not a share"),
        ({"challenger": 2, "share": -0.1}, "share = -0.1"),
        ({"challenger": 2, "share": float("nan")}, "share = nan"),
        ({"challenger": 2, "share": 0.1, "fault": 2.0}, "fault = 2.0"),
        ({"challenger": 1, "share": 0.1}, "champion and challenger at once"),
        ({"share": 0.1}, "no challenger"),
        ({"fault": 0.1}, "no challenger"),
    ],
)
def test_impossible_splits_are_refused(given: dict[str, Any], said: str, bikes: Store) -> None:
    with pytest.raises(InvalidInput, match=said):
        set_traffic(bikes, "bikes", champion=1, by="ann", reason="test", **given)
    assert traffic_history(bikes, "bikes") == []


def test_unknown_things_are_refused(bikes: Store) -> None:
    with pytest.raises(NotFound, match="Deploy one with"):
        current_traffic(bikes, "bikes")
    with pytest.raises(NotFound, match="'9'"):
        move(bikes, 9)
    with pytest.raises(NotFound, match="'9'"):
        move(bikes, 1, 9, 0.1)
    with pytest.raises(NotFound, match="Did you mean 'bikes'"):
        set_traffic(bikes, "bykes", champion=1)
    move(bikes, 1)
    with pytest.raises(NotFound, match="Did you mean 'bikes'"):
        current_traffic(bikes, "bykes")


def test_decision_on_an_old_row_is_refused(bikes: Store) -> None:
    seen = move(bikes, 1, expected_seq=0)
    move(bikes, 2)
    with pytest.raises(Conflict, match="expected row 1, found 2"):
        move(bikes, 3, expected_seq=seen.seq)
    assert current_traffic(bikes, "bikes").champion == 2


def test_only_one_of_many_deciders_wins(any_bikes: Store) -> None:
    move(any_bikes, 1)

    def decide(_: int) -> bool:
        try:
            set_traffic(any_bikes, "bikes", champion=2, expected_seq=1)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(decide, range(6)))
    assert won.count(True) == 1
    assert [row.seq for row in traffic_history(any_bikes, "bikes")] == [2, 1]


def test_rollback_ends_a_canary_or_brings_the_champion_back(any_bikes: Store) -> None:
    move(any_bikes, 1)
    move(any_bikes, 2)
    for share in (0.05, 0.25):
        move(any_bikes, 2, 3, share, paired=True)
    ended = rollback_traffic(any_bikes, "bikes", by="guard", reason="errors")
    assert (ended.champion, ended.challenger, ended.share, ended.paired, ended.undo) == (2, None, 0.0, False, True)
    assert rollback_traffic(any_bikes, "bikes", by="guard", reason="errors").champion == 1
    with pytest.raises(Conflict, match="no earlier traffic"):
        rollback_traffic(any_bikes, "bikes", by="guard", reason="errors")


def test_traffic_governs_and_the_endpoint_hangs_on_the_versions(any_bikes: Store) -> None:
    move(any_bikes, 1)
    move(any_bikes, 1, 2, 0.05)
    with any_bikes.database.reading() as tx:
        events = list_events(tx, type_prefix="traffic.moved")
        assert verify_chain(tx).intact
        nodes = graph(tx, get_model(tx, "bikes:2").version_id, up=False).nodes
    assert [event.governs for event in events] == [True, True]
    assert events[1].body["before"]["champion"] == 1
    assert events[1].body["text"] == "version 1 answers, version 2 gets 5%: test"
    assert ("endpoint", "bikes") in {(node.kind, node.label) for node in nodes}


def test_promotion_moves_alias_and_traffic_together(any_bikes: Store, pass_time: PassTime) -> None:
    promote(any_bikes, "bikes", 1, by="ann", reason="first")
    pass_time(any_bikes)
    move(any_bikes, 1, 2, 0.25)
    set_alias(any_bikes, "bikes", "challenger", 2, by="loop", reason="canary")
    pass_time(any_bikes)
    moved = promote(any_bikes, "bikes", 2, by="loop", reason="better", expected_seq=2)
    assert (moved.champion, moved.challenger, moved.seq) == (2, None, 3)
    assert current_aliases(any_bikes, "bikes") == {"champion": 2}
    with pytest.raises(Conflict):
        promote(any_bikes, "bikes", 3, by="loop", reason="late", expected_seq=2)
    assert current_aliases(any_bikes, "bikes") == {"champion": 2}


def test_failed_promotion_moves_neither(any_bikes: Store) -> None:
    promote(any_bikes, "bikes", 1, by="ann", reason="first")
    with pytest.raises(ZeroDivisionError), any_bikes.database.transaction() as tx:
        1 / promote(tx, "bikes", 2, by="ann", reason="second", at=any_bikes.clock.now()).fault
    assert current_traffic(any_bikes, "bikes").champion == 1
    assert current_aliases(any_bikes, "bikes") == {"champion": 1}


def test_rollback_of_a_promotion_moves_both_back(any_bikes: Store, pass_time: PassTime) -> None:
    for seq in (1, 2, 3):
        promote(any_bikes, "bikes", seq, by="ann", reason="next")
        pass_time(any_bikes)
    for expected in (2, 1):
        assert rollback(any_bikes, "bikes", by="ann", reason="complaints").champion == expected
        assert current_aliases(any_bikes, "bikes") == {"champion": expected}
        pass_time(any_bikes)
    with pytest.raises(Conflict):
        rollback(any_bikes, "bikes", by="ann", reason="complaints")


moves = st.lists(st.one_of(st.tuples(st.integers(1, 3), st.sampled_from([None, 1, 2, 3])), st.just("back")), max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves)
def test_traffic_equals_a_stack_of_champions(bikes: Store, plan: list[Any]) -> None:
    """Whatever is done, the state is that of a stack: settling pushes, a rollback ends the canary or pops."""
    with bikes.database.transaction() as tx:
        tx.execute(sa.delete(deployment))
    stack: list[int] = []
    challenger: int | None = None
    for step in plan:
        left = stack if challenger else stack[:-1]
        if step == "back" and not left:
            with pytest.raises(Conflict):
                rollback_traffic(bikes, "bikes", by="x", reason="y")
        elif step == "back":
            stack, challenger = left, None
            assert rollback_traffic(bikes, "bikes", by="x", reason="y").champion == stack[-1]
        elif step[0] != step[1]:
            champion, challenger = step
            move(bikes, champion, challenger, 0.1 if challenger else 0.0)
            settled = challenger is None and stack[-1:] != [champion]
            stack = [*stack, champion] if settled else stack
    rows = traffic_history(bikes, "bikes")
    assert [row.seq for row in rows] == list(range(len(rows), 0, -1))
    assert not rows or rows[0].challenger == challenger
