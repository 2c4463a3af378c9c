"""Data that no model can be made of: the retraining fails with its reason, the loop goes on, the champion stays."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from tidewheel.data import datasets
from tidewheel.errors import ValidationFailed
from tidewheel.evaluation import gates
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.loop.requests import request_run
from tidewheel.loop.status import status
from tidewheel.loop.tick import Ticker
from tidewheel.registry.traffic import current_traffic
from tidewheel.registry.versions import list_versions

ONE_CLASS = pl.lit(1, dtype=pl.Int64).alias("good")
ONE_CLASS_TO_LEARN = pl.when(pl.int_range(pl.len()) < 370).then(1).otherwise("good").cast(pl.Int64).alias("good")
NO_LABEL = pl.lit(None, dtype=pl.Int64).alias("good")
ALL_NULL = pl.lit(None, dtype=pl.Float64).alias("weight")
INFINITE = pl.when(pl.int_range(pl.len()) % 5 == 0).then(math.inf).otherwise("weight").alias("weight")
INFINITE_LABEL = pl.when(pl.int_range(pl.len()) == 300).then(math.inf).otherwise("good").alias("good")
CONSTANT = pl.lit(1.0).alias("weight")


@pytest.mark.parametrize(
    ("pipe", "bad", "reasons"),
    [
        ("apples", ONE_CLASS, ["'good' of orchard:2 holds only the value 1 in the 150 rows", "nothing to learn"]),
        ("cherries", ONE_CLASS, ["'good' of orchard:2 holds only the value 1 in the 150 rows", "nothing to learn"]),
        ("cherries", ONE_CLASS_TO_LEARN, ["'good' of orchard:2 holds only the value 1"]),
        ("cherries", NO_LABEL, ["'good' of orchard:2 holds no value at all"]),
        ("apples", ALL_NULL, ["grow of apples failed", "NaN", "column 'weight' holds no value at all"]),
        ("cherries", ALL_NULL, ["graft of cherries failed", "column 'weight' holds no value at all"]),
        ("apples", INFINITE, ["infinity", "column 'weight' holds 40 infinite numbers"]),
        ("apples", INFINITE_LABEL, ["infinity", "column 'good' holds 1 infinite numbers"]),
    ],
)
def test_bad_rows_end_their_retraining_alone(
    store: Store, orchard: ModuleType, pipe: str, bad: pl.Expr, reasons: list[str]
) -> None:
    orchard.plant(store)
    random = np.random.default_rng(1)
    only = [gates.beats_champion("accuracy")]
    ticker = Ticker(store, orchard.make_loop(pipeline=getattr(orchard, pipe), gates=only, train_rows=200))
    assert ticker.tick().trained is not None
    datasets.append(store, "orchard", orchard.harvest(random, 400).with_columns(bad), strict=False)
    request_run(store, "apples", by="ann")
    trained = ticker.tick().trained
    assert trained is not None
    assert trained.ending == "failed"
    with store.database.reading() as tx:
        (event,) = (one for one in list_events(tx, type_prefix="run.failed") if one.by == "loop")
    for reason in reasons:
        assert reason in trained.reason
        assert reason in event.body["text"]
    assert event.body["mend"]
    assert ticker.tick().cause is None
    found = status(store, "apples")[0]
    assert (found.busy, found.doing, found.champion) == (False, "watching", 1)
    assert current_traffic(store, "apples").champion == len(list_versions(store, "apples")) == 1
    datasets.append(store, "orchard", orchard.harvest(random, 400), strict=False)
    request_run(store, "apples", by="ann")
    after = ticker.tick().trained
    assert after is not None
    assert after.ending in ("deployed", "refused")  # sound rows are judged again


def test_a_learner_that_takes_infinite_values_is_let_learn(store: Store, orchard: ModuleType) -> None:
    orchard.plant(store)
    datasets.append(
        store, "orchard", orchard.harvest(np.random.default_rng(1), 100).with_columns(INFINITE), strict=False
    )
    trained = Ticker(store, orchard.make_loop(pipeline=orchard.cherries)).tick().trained
    assert trained is not None
    assert trained.ending == "deployed"


def test_a_constant_column_is_no_trouble(store: Store, orchard: ModuleType) -> None:
    rows = orchard.harvest(np.random.default_rng(0), 200).with_columns(CONSTANT)
    datasets.register(store, "orchard", rows, label="good")
    trained = Ticker(store, orchard.make_loop()).tick().trained
    assert trained is not None
    assert trained.ending == "deployed"


@pytest.mark.parametrize(("bad", "code"), [(ONE_CLASS, "one_class"), (INFINITE, "infinite")])
def test_rows_without_hope_are_refused_at_the_door(store: Store, orchard: ModuleType, bad: pl.Expr, code: str) -> None:
    rows = orchard.harvest(np.random.default_rng(0), 200).with_columns(bad)
    with pytest.raises(ValidationFailed, match=code):
        datasets.register(store, "orchard", rows, label="good")
