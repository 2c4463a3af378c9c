"""Aliases remember every version they pointed to, and go back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.registry.aliases import alias_history, current_aliases, rollback, set_alias
from tidewheel.registry.versions import get_model

if TYPE_CHECKING:
    from tests.registry.conftest import PassTime


@dataclass
class Desk:
    """Moves aliases of bikes, a minute apart."""

    store: Store
    pass_time: PassTime

    def move(self, seq: int | None, alias: str = "champion") -> None:
        set_alias(self.store, "bikes", alias, seq, by="ann", reason=f"to {seq}")
        self.pass_time(self.store)

    def back(self) -> int | None:
        held = rollback(self.store, "bikes", by="ann", reason="complaints")
        self.pass_time(self.store)
        return held.seq


@pytest.fixture
def desk(any_bikes: Store, pass_time: PassTime) -> Desk:
    return Desk(any_bikes, pass_time)


def test_alias_is_found_moved_and_taken_away(desk: Desk) -> None:
    desk.move(2)
    desk.move(3, "challenger")
    assert get_model(desk.store, "bikes@champion").seq == 2
    assert current_aliases(desk.store, "bikes") == {"challenger": 3, "champion": 2}
    desk.move(None, "challenger")
    assert current_aliases(desk.store, "bikes") == {"champion": 2}


def test_history_has_no_gap_and_no_overlap(desk: Desk) -> None:
    for seq in (1, 2, None, 3):
        desk.move(seq)
    history = alias_history(desk.store, "bikes", "champion")
    assert [item.seq for item in history] == [3, None, 2, 1]
    assert [item.reason for item in history] == ["to 3", "to None", "to 2", "to 1"]
    assert history[0].valid_to is None
    assert [item.valid_to for item in history[1:]] == [item.valid_from for item in history[:-1]]
    assert alias_history(desk.store, "bikes", "prod") == []


def test_pointing_where_it_points_changes_nothing(desk: Desk) -> None:
    desk.move(1)
    desk.move(1)
    desk.move(None, "challenger")
    assert [(item.name, item.seq) for item in alias_history(desk.store, "bikes")] == [("champion", 1)]


def test_rollback_goes_back_one_promotion_each_time(desk: Desk) -> None:
    for seq in (1, 2, 3):
        desk.move(seq)
    assert desk.back() == 2
    assert desk.back() == 1
    with pytest.raises(Conflict, match="No other version was champion"):
        desk.back()
    assert get_model(desk.store, "bikes@champion").seq == 1


def test_promotion_after_a_rollback_can_be_rolled_back(desk: Desk) -> None:
    for seq in (1, 2):
        desk.move(seq)
    assert desk.back() == 1
    desk.move(3)
    assert desk.back() == 1
    desk.move(2)
    desk.move(1)
    assert desk.back() == 2


def test_every_move_governs(desk: Desk) -> None:
    desk.move(1)
    desk.move(2)
    desk.back()
    with desk.store.database.reading() as tx:
        events = list_events(tx, type_prefix="alias.moved")
    assert [event.governs for event in events] == [True] * 3
    assert events[-1].body["reason"] == "rollback: complaints"


def test_unknown_things_are_refused(desk: Desk) -> None:
    with pytest.raises(NotFound, match="'7'"):
        set_alias(desk.store, "bikes", "champion", 7, by="ann", reason="")
    with pytest.raises(NotFound, match="Did you mean 'bikes'"):
        set_alias(desk.store, "bykes", "champion", 1, by="ann", reason="")
    with pytest.raises(InvalidInput, match="alias"):
        set_alias(desk.store, "bikes", "the best", 1, by="ann", reason="")
    with pytest.raises(Conflict):
        rollback(desk.store, "bikes", by="ann", reason="")
