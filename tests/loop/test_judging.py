"""What gates may judge on, which alarms begin a ladder, and the game day that shuffles labels."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tidewheel.data import datasets
from tidewheel.errors import InvalidInput
from tidewheel.evaluation import gates
from tidewheel.lineage.read import find_entity, list_events
from tidewheel.loop import triggers
from tidewheel.loop.loop import GameDay
from tidewheel.loop.material import pin, unseen_rows
from tidewheel.loop.requests import request_run
from tidewheel.loop.tick import Ticker, tick


def grown(stand: Any, orchard: ModuleType, rows: int) -> None:
    """Train on 200 rows, then append more."""
    tick(stand.store, orchard.make_loop())
    if rows:
        datasets.append(stand.store, "orchard", orchard.harvest(np.random.default_rng(5), rows))


def test_before_there_is_a_champion_all_rows_may_be_judged_on(stand: Any, orchard: ModuleType) -> None:
    assert unseen_rows(stand.store, orchard.make_loop(), datasets.get(stand.store, "orchard")) is None


@pytest.mark.parametrize(("rows", "unseen"), [(0, 0), (90, 90)])
def test_rows_are_unseen_that_came_after_the_champion_was_fitted(
    stand: Any, orchard: ModuleType, rows: int, unseen: int
) -> None:
    grown(stand, orchard, rows)
    assert unseen_rows(stand.store, orchard.make_loop(), datasets.get(stand.store, "orchard")) == unseen


@pytest.mark.parametrize(
    ("unseen", "held_out"),
    [
        (None, 75),  # a quarter of 300
        (100, 50),  # half of what the champion has not seen
        (290, 75),  # never more than the quarter
        (0, 20),  # nothing is unseen: the fewest that can be judged on
    ],
)
def test_half_of_the_unseen_rows_are_held_out_at_most(
    stand: Any, orchard: ModuleType, unseen: int | None, held_out: int
) -> None:
    grown(stand, orchard, 100)
    material = pin(stand.store, orchard.make_loop(), "orchard", unseen=unseen)
    assert (material.held_out.height, material.fit.height) == (held_out, 300 - held_out)
    assert material.all.equals(datasets.read(stand.store, "orchard"))


def test_a_retraining_is_judged_on_rows_its_champion_was_not_fitted_on(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    loop = orchard.make_loop(on=[triggers.new_data(rows=80)], gates=[gates.threshold("accuracy", at_least=0.5)])
    ticker = Ticker(store, loop)
    ticker.tick()
    stand.sell(80)
    assert ticker.tick().trained is not None
    with store.database.reading() as tx:
        model = find_entity(tx, "model", "apples").id
        finished = [event.body["rows"] for event in list_events(tx, subject_id=model, type_prefix="run.finished")]
    assert finished[-2:] == [240, 280]  # 40 of the 80 new rows were held out, then all were learned from


def test_shuffled_labels_spoil_the_first_retraining_alone(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    loop = orchard.make_loop(gates=[gates.threshold("accuracy", at_least=0.85)], game_day=GameDay(shuffle_labels=True))
    ticker = Ticker(store, loop)
    first = ticker.tick().trained
    endings = []
    for _ in range(2):
        stand.sell(60)
        ticker.tick()
        request_run(store, "apples", by="ann", reason="game day")
        trained = ticker.tick().trained
        assert trained is not None
        endings.append(trained.ending)
    assert first is not None
    assert [first.ending, *endings] == ["deployed", "refused", "deployed"]
    with store.database.reading() as tx:
        model = find_entity(tx, "model", "apples").id
        told = [event.body["text"] for event in list_events(tx, subject_id=model, type_prefix="gate.refused")]
    assert len(told) == 1
    assert told[0].startswith("game day, shuffled labels")


def test_an_alarm_that_is_not_named_begins_no_ladder(orchard: ModuleType) -> None:
    with pytest.raises(InvalidInput, match="names no alarm"):
        orchard.make_loop(ladder=(40,), ladder_on=("rain",))
