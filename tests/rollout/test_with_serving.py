"""The whole canary with the real server: requests in, decisions out, the traffic followed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tidewheel.lineage.store import Store
from tidewheel.models.bundle import save_bundle
from tidewheel.models.model import Model
from tidewheel.monitoring.observe import observe
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.promotion import promote
from tidewheel.registry.traffic import current_traffic
from tidewheel.registry.versions import register_model
from tidewheel.rollout.advance import advance
from tidewheel.rollout.begin import begin
from tidewheel.rollout.records import Decision
from tidewheel.rollout.rollouts import canary
from tidewheel.serving.engine import Engine

MODEL = "pears"
CONFIG = canary((20, 100), goal="accuracy", min_requests=100)


def drawn(random: np.random.Generator, rows: int) -> tuple[pl.DataFrame, NDArray[Any]]:
    frame = pl.DataFrame({"weight": random.normal(size=rows), "size": random.normal(size=rows)})
    return frame, (frame["weight"] + frame["size"] > 0).to_numpy().astype(np.int64)


class Caller:
    """Asks the server and brings the truth; counts what went wrong for the caller."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self.store, self.engine = store, engine
        self.random = np.random.default_rng(0)
        self.failed = 0
        self.arms: list[str] = []
        self.joiner = Joiner(log_folder(store.home, MODEL))

    def ask(self, requests: int) -> None:
        frame, truth = drawn(self.random, requests)
        outcomes = []
        for row, label in zip(frame.iter_rows(named=True), truth.tolist(), strict=True):
            asked = msgspec.json.encode({"rows": [row], "id": f"q{len(self.arms)}"})  # the id leads to the arm
            answer = self.engine.handle("POST", f"/predict/{MODEL}", (), asked)
            body = msgspec.json.decode(answer.body)
            self.failed += answer.status != 200
            self.arms.append(body["arm"])
            outcomes.append({"id": body["id"], "label": label})
        body = msgspec.json.encode({"model": MODEL, "outcomes": outcomes})
        assert self.engine.handle("POST", "/outcomes", (), body).status == 202

    def until_decided(self, looks: int) -> list[Decision]:
        decisions = []
        for _ in range(looks):
            self.ask(25)
            decision = advance(self.store, MODEL, joiner=self.joiner)
            self.engine.refresh()
            if decision is not None:
                decisions.append(decision)
                if decision.state != "running":
                    return decisions
        return decisions


@pytest.fixture
def caller(store: Store) -> Iterator[Caller]:
    """A server whose champion ignores a feature, and a candidate that does not."""
    frame, truth = drawn(np.random.default_rng(1), 600)
    poor = LogisticRegression().fit(frame.with_columns(size=pl.lit(0.0)).to_pandas(), truth)
    good = LogisticRegression().fit(frame.to_pandas(), truth)
    for fitted in (poor, good):
        bundle = save_bundle(store, Model(fitted, example=frame.head(20)), rows=frame)
        register_model(store, MODEL, bundle, metrics={"accuracy": 0.75})
    promote(store, MODEL, 1, by="test", reason="first")
    engine = Engine(store, [MODEL])
    engine.refresh()
    yield Caller(store, engine)
    engine.close()


def test_the_better_model_takes_over_and_no_caller_notices(caller: Caller) -> None:
    begin(caller.store, MODEL, 2, CONFIG, by="test")
    caller.engine.refresh()
    decisions = caller.until_decided(40)
    assert [decision.action for decision in decisions] == ["promote"]
    assert decisions[0].numbers["goal"]["candidate"] > decisions[0].numbers["goal"]["champion"] + 0.1
    caller.ask(5)
    assert caller.arms[-5:] == ["champion"] * 5
    assert caller.failed == 0
    assert current_traffic(caller.store, MODEL).champion == 2


def test_a_better_model_that_fails_on_five_percent_is_rolled_back_and_no_caller_notices(caller: Caller) -> None:
    begin(caller.store, MODEL, 2, CONFIG, by="test", fault=0.05)
    caller.engine.refresh()
    decisions = caller.until_decided(40)
    assert [decision.action for decision in decisions] == ["roll_back"]
    assert "fails more often" in decisions[0].reason
    assert caller.failed == 0
    assert "fallback" in caller.arms
    assert current_traffic(caller.store, MODEL).challenger is None


def test_monitoring_reads_what_the_server_wrote(caller: Caller) -> None:
    begin(caller.store, MODEL, 2, CONFIG, by="test")
    caller.engine.refresh()
    caller.ask(120)
    policy = MonitorPolicy(window_rows=100, label_rows=100)
    traffic, labels = observe(caller.store, MODEL, policy=policy)
    assert traffic.traffic is not None
    assert {column.name for column in traffic.traffic.columns} == {"weight", "size", "prediction", "probability"}
    assert set(traffic.traffic.arms) == {"champion", "challenger"}
    assert not any(column.drifted for column in traffic.traffic.columns)
    assert labels.performance is not None
    assert labels.performance.value == pytest.approx(0.75, abs=0.12)
