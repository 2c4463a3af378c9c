"""Labels become rows: each once, whoever looks, whatever dies; a bad label costs itself alone."""

from __future__ import annotations

from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from tidewheel.data import datasets
from tidewheel.data.records import Schema
from tidewheel.data.schema import infer_schema
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.loop.cells import sort_rows
from tidewheel.loop.collect import Collector
from tidewheel.loop.state import Claim, Overtaken, load_state
from tidewheel.loop.tick import Ticker
from tidewheel.predictions.join import LabelledRow
from tidewheel.predictions.records import Prediction
from tidewheel.stats.profile import profile_frame


def claim_of(store: Store) -> Claim:
    """Read the state of the loop."""
    with store.database.reading() as tx:
        return Claim(store, "apples", load_state(tx, "apples"))


@pytest.fixture
def serving(any_stand: Any, orchard: ModuleType) -> Any:
    """A stand with a champion, and its loop."""
    Ticker(any_stand.store, orchard.make_loop()).tick()
    return any_stand


def test_a_crash_between_look_and_keep_loses_nothing(serving: Any, orchard: ModuleType) -> None:
    store, loop = serving.store, orchard.make_loop()
    sold = serving.sell(12)
    dead = Collector(store, loop)
    dead.look(claim_of(store))
    assert dead.waiting == 12
    heir, claim = Collector(store, loop), claim_of(store)
    heir.look(claim)
    heir.keep(claim)
    assert datasets.read(store, "orchard").tail(12)["weight"].to_list() == sold["weight"].to_list()
    assert claim_of(store).state.labelled == 12


def test_two_collectors_in_turn_keep_each_label_once(serving: Any, orchard: ModuleType) -> None:
    store, loop = serving.store, orchard.make_loop()
    both = Collector(store, loop), Collector(store, loop)
    sold = []
    for turn in range(6):
        sold.append(serving.sell(5))
        claim = claim_of(store)
        for collector in both:
            collector.look(claim)
        assert both[0].waiting == both[1].waiting
        both[turn % 2].keep(claim)
    expected = pl.concat(sold)
    assert datasets.read(store, "orchard").tail(30)["weight"].to_list() == expected["weight"].to_list()
    assert datasets.get(store, "orchard").rows == 230


def test_a_collector_that_was_overtaken_keeps_nothing(serving: Any, orchard: ModuleType) -> None:
    store, loop = serving.store, orchard.make_loop()
    serving.sell(5)
    one, other = Collector(store, loop), Collector(store, loop)
    early, late = claim_of(store), claim_of(store)
    one.look(early)
    other.look(late)
    other.keep(late)
    with pytest.raises(Overtaken):
        one.keep(early)
    assert datasets.get(store, "orchard").rows == 205


def test_late_and_repeated_labels_count_once(serving: Any, orchard: ModuleType) -> None:
    store, ticker = serving.store, Ticker(serving.store, orchard.make_loop(collect_rows=1))
    frame = orchard.harvest(serving.random, 3)
    ids = serving.serve(frame)
    serving.label(ids[:1], [1])
    ticker.tick()
    serving.label([ids[0], "nobody", ids[1]], [0, 1, 1])
    ticker.tick()
    serving.label(ids[2:], [0])
    ticker.tick()
    assert datasets.read(store, "orchard").tail(3)["good"].to_list() == [1, 1, 0]
    assert datasets.get(store, "orchard").rows == 203


def test_a_damaged_label_costs_its_own_row_alone(serving: Any, orchard: ModuleType) -> None:
    store, ticker = serving.store, Ticker(serving.store, orchard.make_loop(collect_rows=1))
    serving.label(serving.serve(orchard.harvest(serving.random, 5)), [1, "good", 0, True, 1])
    ticker.tick()
    assert datasets.get(store, "orchard").rows == 203
    assert claim_of(store).state.labelled == 5
    with store.database.reading() as tx:
        (event,) = list_events(tx, type_prefix="collect.refused")
    assert event.body["text"].startswith("2 of 5 labelled rows refused: r2: good = 'good' is not int; r4: good = True")


def test_without_collecting_labels_are_counted_and_not_kept(serving: Any, orchard: ModuleType) -> None:
    store, ticker = serving.store, Ticker(serving.store, orchard.make_loop(collect=False, collect_rows=4))
    serving.sell(5)
    assert ticker.tick().labelled == 5
    assert claim_of(store).state.labelled == 5
    assert datasets.get(store, "orchard").rows == 200


def labelled(row: int, values: list[Any], label: Any) -> LabelledRow:
    """Return one labelled prediction."""
    prediction = Prediction(
        id=f"r{row}",
        at=1_000_000,
        model="apples",
        version=1,
        arm="champion",
        propensity=1.0,
        unit="",
        status=200,
        features=[values],
        output=[1],
        latency_us=1,
    )
    return LabelledRow(prediction=prediction, row=0, label=label, at=2_000_000)


def schema_of(frame: pl.DataFrame, **roles: str) -> Schema:
    """Infer the schema of a frame."""
    return infer_schema(profile_frame(frame), **roles)  # type: ignore[arg-type]


def test_columns_that_are_not_served_stay_empty_and_the_time_is_that_of_the_prediction() -> None:
    known = pl.DataFrame(
        {
            "when": [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 21)],
            "weight": [float(day) for day in range(20)],
            "crate": list(range(20)),
            "price": [0.5 + day for day in range(20)],
        }
    )
    rows = [labelled(1, [1], 2.5), labelled(2, [float("inf")], 1.0), labelled(3, [3.0], 7)]
    found = sort_rows(rows, {1: ["weight"]}, schema_of(known, time="when", label="price"), "price")
    assert found.frame.columns == known.columns
    assert found.frame["weight"].to_list() == [1.0, 3.0]
    assert found.frame["price"].to_list() == [2.5, 7.0]
    assert found.frame["crate"].to_list() == [None, None]
    assert found.frame["when"].to_list() == [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)] * 2
    assert (found.refused.height, found.lost) == (1, 1)
    assert "weight" in found.problems[0]


@pytest.mark.parametrize(
    ("label", "kept"),
    [(1, True), (2.5, True), ("1", False), (True, False), (2**63, False), (-(2**62), True)],
)
def test_a_label_must_be_of_the_type_of_its_column(label: Any, *, kept: bool) -> None:
    schema = schema_of(pl.DataFrame({"weight": [1.0, 2.0] * 30, "price": [1, 2] * 30}))
    found = sort_rows([labelled(1, [1.0], label)], {1: ["weight"]}, schema, "price")
    assert (found.frame.height, found.lost) == ((1, 0) if kept else (0, 1))
