"""The page reads what the rooms hold: a real loop on a real store, from nothing to its first model and a canary."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import orjson
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.applications import Starlette

from tidewheel.clock import ManualClock
from tidewheel.data import datasets
from tidewheel.errors import NotFound
from tidewheel.lineage.store import Store
from tidewheel.loop import triggers
from tidewheel.loop.loop import Loop
from tidewheel.loop.requests import request_run
from tidewheel.loop.tick import tick
from tidewheel.models.model import Model
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.step import step
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.segments import log_folder
from tidewheel.rollout import rollouts
from tidewheel.web.gather import read_status
from tidewheel.web.records import LoopState
from tidewheel.web.serve import create_app

Fetch = Callable[[Starlette, str, str], tuple[int, dict[str, str], str]]


@step
def fit(rows: pl.DataFrame) -> Model:
    features = rows.select("a", "b")
    estimator = LogisticRegression().fit(features, rows["label"])
    return Model(estimator, example=features.head(10))


@pipeline
def tides(rows: pl.DataFrame) -> Model:
    return fit(rows)


@pipeline
def storms(rows: pl.DataFrame) -> Model:
    raise ValueError(f"{rows.height} rows are too many")


def table(count: int, seed: int) -> pl.DataFrame:
    values = np.random.default_rng(seed).normal(size=(count, 2))
    return pl.DataFrame({"a": values[:, 0], "b": values[:, 1], "label": (values.sum(axis=1) > 0).astype(int)})


def loop(**changes: object) -> Loop:
    return Loop(
        **{
            "pipeline": tides,
            "model": "tides",
            "data": "gauges",
            "label": "label",
            "on": [triggers.cron("0 3 * * *"), triggers.drift(psi=0.3)],
            "rollout": rollouts.canary((5, 25, 100)),
            **changes,
        }  # type: ignore[arg-type]
    )


def move_on(store: Store) -> None:
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(minutes=1))


def turn(store: Store, turning: Loop, *, asked: str = "") -> None:
    if asked:
        request_run(store, turning.model, by="tester", reason=asked)
    move_on(store)
    tick(store, turning)
    move_on(store)


@pytest.fixture
def gauges(store: Store) -> Store:
    datasets.register(store, "gauges", table(400, seed=1), label="label")
    LogWriter(log_folder(store.home, "tides"), "w0").flush()
    return store


def shown(store: Store, model: str | None = None) -> LoopState:
    state = read_status(store, (), model).shown
    assert state is not None
    return state


def test_an_empty_store_shows_nothing(store: Store) -> None:
    status = read_status(store)
    assert (status.loops, status.shown, status.at) == ((), None, store.clock.now())
    assert status.home == f"{store.home.parent.name}/{store.home.name}"


def test_a_declared_loop_shows_before_its_first_turn(store: Store) -> None:
    state = read_status(store, [loop()]).shown
    assert state is not None
    assert (state.model, state.activity, state.traffic, state.runs) == ("tides", "empty", None, ())
    assert [(line.kind, line.rule) for line in state.triggers] == [
        ("cron", "0 3 * * * UTC"),
        ("drift", "psi=0.3, windows=2"),
    ]


def test_the_first_model_serves_all(gauges: Store) -> None:
    turn(gauges, loop())
    state = shown(gauges)
    assert (state.activity, state.pipeline) == ("watching", "tides")
    assert state.traffic is not None
    assert (state.traffic.champion, state.traffic.challenger) == (1, None)
    (version,) = state.versions
    assert (version.seq, version.aliases) == (1, ("champion",))
    assert version.metrics["accuracy"] > 0.9
    assert version.run_id in {run.id for run in state.runs}
    assert {run.state for run in state.runs} == {"SUCCEEDED"}
    assert state.runs[0].cause.startswith("first: ")
    assert [(mark.kind, mark.label) for mark in state.marks] == [("retrained", ""), ("promoted", "v1")]
    assert [(reign.seq, reign.ends) for reign in state.reigns] == [(1, None)]
    assert "version 1" in state.decisions[0].text
    assert state.running == ()


def test_a_canary_shows_what_is_being_decided(gauges: Store) -> None:
    turn(gauges, loop())
    datasets.append(gauges, "gauges", table(200, seed=2))
    turn(gauges, loop(), asked="new gauges")
    state = shown(gauges, "tides")
    assert state.activity == "deciding"
    assert state.traffic is not None
    assert (state.traffic.challenger, state.traffic.share) == (2, 0.05)
    assert state.rollout is not None
    assert (state.rollout.challenger, state.rollout.step, state.rollout.steps) == (2, 0, (0.05, 0.25, 1.0))
    assert {test.guard for test in state.rollout.evidence} == {True, False}
    assert all(test.limit > 0 for test in state.rollout.evidence)
    assert [version.aliases for version in state.versions] == [("challenger",), ("champion",)]
    assert state.runs[0].cause == "manual: tester asked for it: new gauges"


def test_a_failed_run_says_why(gauges: Store) -> None:
    turn(gauges, loop(pipeline=storms))
    state = shown(gauges)
    assert state.activity == "empty"
    assert state.runs[0].state == "FAILED"
    assert "300 rows are too many" in state.runs[0].error
    assert any("retraining failed" in decision.text for decision in state.decisions)


def test_an_unknown_model_is_answered_with_near_names(gauges: Store) -> None:
    turn(gauges, loop())
    with pytest.raises(NotFound, match="Did you mean 'tides'"):
        read_status(gauges, (), "tide")


def test_the_whole_page_comes_from_the_store(gauges: Store, fetch: Fetch) -> None:
    turn(gauges, loop())
    assert "Version 1 serves every request." in fetch(create_app(gauges), "/", "GET")[2]
    twin = orjson.loads(fetch(create_app(gauges), "/api/status?model=tides", "GET")[2])
    assert twin["shown"]["traffic"]["champion"] == 1
    assert fetch(create_app(gauges), "/?model=tide", "GET")[0] == 404
