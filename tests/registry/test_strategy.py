"""Strategies in the traffic table: declared, checked, frozen, journaled, rolled back; on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from tidewheel.errors import Conflict, InvalidInput, NotFound, TidewheelError
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.registry.aliases import current_aliases
from tidewheel.registry.describe import described, strategy_of
from tidewheel.registry.promotion import promote, rollback, set_strategy
from tidewheel.registry.seats import shares_of
from tidewheel.registry.strategy import (
    AnyStrategy,
    BlueGreen,
    Cascade,
    Ensemble,
    Experiment,
    Experiments,
    Fallback,
    Feature,
    Learned,
    Linear,
    Shadow,
    Split,
    Thompson,
    declared,
    read,
    stored,
)
from tidewheel.registry.traffic import Traffic, current_traffic, set_traffic, traffic_history
from tidewheel.rollout.begin import begin
from tidewheel.rollout.rollouts import canary

HALVES = {1: 0.5, 2: 0.5}
STRATEGIES: list[AnyStrategy] = [
    Split(weights=HALVES, faults={2: 0.1}),
    Experiments(layer="web", experiments=(Experiment(name="a", start=0.2, end=0.5, weights=HALVES),)),
    BlueGreen(standby=2),
    Shadow(versions=(2,)),
    Thompson(versions=(1, 2), seen={1: Learned(weight=2.0)}),
    Linear(versions=(1, 2), features=(Feature(name="a"),)),
    Cascade(versions=(2, 1), threshold=0.8),
    Ensemble(weights={1: 1.0, 2: 2.0}),
    Fallback(versions=(1, 2), timeout_ms=50.0),
]


def move(store: Store, strategy: AnyStrategy, **given: Any) -> Traffic:
    return set_strategy(store, "bikes", strategy, by="ann", reason="test", **given)


def test_each_strategy_is_kept_as_it_was_frozen_and_journaled(any_bikes: Store) -> None:
    promote(any_bikes, "bikes", 1, by="ann", reason="first")
    for strategy in STRATEGIES:
        moved = move(any_bikes, strategy)
        assert current_traffic(any_bikes, "bikes") == moved
        assert moved.champion == 1
        assert moved.strategy is not None
        assert read(stored(moved.strategy)) == moved.strategy
        assert sum(moved.shares().values()) == pytest.approx(1)
        assert set(moved.shares()) == {1, 2}
    with any_bikes.database.reading() as tx:
        rows = list_events(tx, type_prefix="traffic.moved")
        events = [event for event in rows if "strategy" in event.body]
        told = {event.body["strategy"]["kind"] for event in events}
        assert told == {strategy.kind for strategy in STRATEGIES}
        assert not any("seats" in str(event.body) for event in events)
        assert verify_chain(tx).intact


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (Split(weights={1: 0.5, 2: 0.4}), "add up to 0.9"),
        (Split(weights={2: 1.0}), "champion 1 is none"),
        (Split(weights=HALVES, faults={3: 0.1}), "Version 3 has faults"),
        (BlueGreen(standby=1), "is the champion already"),
        (Shadow(versions=()), "too few"),
        (Shadow(versions=(2, 2)), "named twice"),
        (Thompson(versions=(1, 2), floor=0.001), "floor = 0.001"),
        (Thompson(versions=(1, 2), floor=0.6), "floor = 0.6"),
        (Thompson(versions=(1,)), "too few"),
        (Linear(versions=(1, 2), features=()), "nothing to look at"),
        (Cascade(versions=(1, 2), threshold=0.8), "not the last stage"),
        (Fallback(versions=(2, 1)), "not the first"),
        (Ensemble(weights={1: 1.0}), "too few"),
        (Experiments(layer="", experiments=()), "need names"),
        (
            Experiments(
                layer="web",
                experiments=(
                    Experiment(name="a", start=0.0, end=0.5, weights=HALVES),
                    Experiment(name="b", start=0.4, end=0.6, weights=HALVES),
                ),
            ),
            "overlaps",
        ),
    ],
)
def test_what_cannot_work_is_refused(strategy: AnyStrategy, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        strategy.check(1)


def test_a_strategy_that_cannot_work_leaves_no_row(bikes: Store) -> None:
    with pytest.raises(InvalidInput, match=r"add up to 0\.9"):
        set_traffic(bikes, "bikes", champion=1, strategy=Split(weights={1: 0.5, 2: 0.4}), by="ann", reason="test")
    assert traffic_history(bikes, "bikes") == []


def test_challenger_and_strategy_are_not_mixed_and_versions_must_be_there(bikes: Store) -> None:
    with pytest.raises(InvalidInput, match="not its own"):
        set_traffic(bikes, "bikes", champion=1, challenger=3, share=0.1, strategy=BlueGreen(standby=2))
    with pytest.raises(NotFound, match="'9'"):
        set_traffic(bikes, "bikes", champion=1, strategy=BlueGreen(standby=9))


def test_alias_and_strategy_move_together_and_back(bikes: Store) -> None:
    promote(bikes, "bikes", 1, by="ann", reason="first")
    move(bikes, BlueGreen(standby=2))
    switched = move(bikes, BlueGreen(standby=1), champion=2)
    assert current_aliases(bikes, "bikes") == {"champion": 2}
    back = rollback(bikes, "bikes", by="ann", reason="no")
    assert (back.champion, back.strategy, back.undo) == (1, BlueGreen(standby=2), True)
    assert current_aliases(bikes, "bikes") == {"champion": 1}
    assert switched.strategy == BlueGreen(standby=1)
    before = rollback(bikes, "bikes", by="ann", reason="no")
    assert (before.champion, before.strategy) == (1, None)
    with pytest.raises(Conflict, match="no earlier traffic"):
        rollback(bikes, "bikes", by="ann", reason="no")


def test_a_split_keeps_salt_and_seats_and_an_experiment_has_its_own(bikes: Store) -> None:
    first = move(bikes, Split(weights={1: 0.9, 2: 0.1}), champion=1)
    second = move(bikes, Split(weights={1: 0.5, 2: 0.1, 3: 0.4}))
    assert first.salt == second.salt
    assert isinstance(second.strategy, Split)
    assert second.strategy.seats == ((1, 5_000), (3, 4_000), (2, 1_000))  # version 2 stays where it sat
    named = move(bikes, Split(weights={1: 0.5, 2: 0.5}, experiment="looks"))
    assert named.salt == "experiment looks"
    assert isinstance(named.strategy, Split)
    assert named.strategy.seats == ((1, 5_000), (2, 5_000))


def test_a_bandit_begins_with_equal_shares_at_its_own_moment(bikes: Store) -> None:
    moved = move(bikes, Thompson(versions=(1, 2, 3)), champion=1)
    assert isinstance(moved.strategy, Thompson)
    assert moved.strategy.since == moved.strategy.learned > 0
    assert shares_of(moved.strategy.seats) == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 1 / 3}, abs=1e-4)


def test_a_canary_has_no_place_in_a_strategy(bikes: Store) -> None:
    promote(bikes, "bikes", 1, by="ann", reason="first")
    move(bikes, BlueGreen(standby=2))
    with pytest.raises(Conflict, match=r"follows the strategy blue-green(?s:.*)models promote bikes 1"):
        begin(bikes, "bikes", 3, canary(), by="ann")
    promote(bikes, "bikes", 1, by="ann", reason="the strategy ends")
    assert begin(bikes, "bikes", 3, canary(), by="ann").action == "start"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"kind": "split", "arms": {1: None, 2: None}}, Split(weights=HALVES)),
        (
            {"kind": "split", "arms": {1: 0.7, 2: 0.3}, "experiment": "x"},
            Split(weights={1: 0.7, 2: 0.3}, experiment="x"),
        ),
        ({"kind": "blue-green", "arms": {2: None}}, BlueGreen(standby=2)),
        ({"kind": "ensemble", "arms": {1: None, 2: None}}, Ensemble(weights={1: 1.0, 2: 1.0})),
        ({"kind": "cascade", "arms": {2: None, 1: None}, "threshold": 0.9}, Cascade(versions=(2, 1), threshold=0.9)),
        (
            {"kind": "linear", "arms": {1: None, 2: None}, "features": "a"},
            Linear(versions=(1, 2), features=(Feature(name="a", centre=0.5, scale=0.5),)),
        ),
    ],
)
def test_words_become_strategies(content: dict[str, Any], expected: AnyStrategy, bikes: Store) -> None:
    assert strategy_of(bikes, "bikes", content) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"kind": "spilt"}, "Did you mean 'split'"),
        ({"kind": "split", "arms": {1: 0.5, 2: None}}, "Some versions have a number"),
        ({"kind": "cascade", "versions": [1, 2]}, "It has these fields: faults, versions, threshold, measure"),
        ({"kind": "thompson", "versions": [1, 2], "flor": 0.1}, "flor"),
        ({"kind": "linear", "versions": [1, 2], "features": "q"}, "numeric column"),
        ({"kind": "linear", "features": "a"}, "No version is named"),
    ],
)
def test_words_that_do_not_fit_are_answered_with_what_does(content: dict[str, Any], said: str, bikes: Store) -> None:
    with pytest.raises(TidewheelError, match=said):
        strategy_of(bikes, "bikes", content)


def test_a_row_is_told_in_plain_words(bikes: Store) -> None:
    promote(bikes, "bikes", 1, by="ann", reason="first")
    alone = described(current_traffic(bikes, "bikes"))
    assert (alone.kind, [(each.version, each.part, each.share) for each in alone.arms]) == (
        "champion",
        [(1, "champion", 1.0)],
    )
    told = described(move(bikes, Cascade(versions=(2, 1), threshold=0.9)))
    assert [(each.version, each.part, each.share) for each in told.arms] == [(1, "champion", 0.0), (2, "stage", 1.0)]


def test_rows_of_before_are_read(bikes: Store) -> None:
    assert read("") is None
    assert declared({"kind": "blue-green", "standby": 2}) == BlueGreen(standby=2)
