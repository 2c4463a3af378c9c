"""A trial of two versions: real bundles in the real registry, requests as serving logs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from tidewheel.clock import micros
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import save_bundle
from tidewheel.models.model import Model
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import Arm, Other, Outcome, Prediction
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.promotion import promote
from tidewheel.registry.traffic import Traffic, current_traffic
from tidewheel.registry.versions import register_model

MODEL = "apples"


@dataclass(frozen=True)
class Behaviour:
    """What a version does to requests."""

    wrong: float = 0.1  # share of wrong answers, or the deviation of a number
    fails: float = 0.0  # share of requests it fails on
    latency_us: int = 1_000  # median latency


@dataclass
class Trial:
    """Serves and labels requests the way serving does, following the traffic row."""

    store: Store
    task: str = "binary"
    behaviour: dict[int, Behaviour] = field(default_factory=dict)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    requests: int = 0

    def __post_init__(self) -> None:
        folder = log_folder(self.store.home, MODEL)
        self.predictions = LogWriter(folder, "w0")
        self.outcomes = LogWriter(folder, "w0", kind=Outcome)

    def traffic(self) -> Traffic:
        """The split in force."""
        return current_traffic(self.store, MODEL)

    def go(self, requests: int, *, labels: bool = True) -> None:
        """Serve so many requests under the present split and, unless told otherwise, label them at once."""
        traffic = self.traffic()
        for _ in range(requests):
            self._request(traffic, labels=labels)
        self.predictions.flush()
        self.outcomes.flush()

    def _request(self, traffic: Traffic, *, labels: bool) -> None:
        self.requests += 1
        truth = self._truth()
        chosen = traffic.challenger is not None and self.random.random() < traffic.share
        arm: Arm = "challenger" if chosen else "champion"
        version, beside = traffic.champion, traffic.challenger
        if chosen and traffic.challenger is not None:
            version, beside = traffic.challenger, traffic.champion
        share = traffic.share if chosen else 1 - traffic.share
        answer, record = self._ask(version, truth), self._record(version, arm, share if beside is not None else 1.0)
        if answer is None:
            self.predictions.append(msgspec.structs.replace(record, status=500, error="it failed"))
            if not chosen:
                return
            second = self._ask(traffic.champion, truth)
            back = msgspec.structs.replace(
                record, version=traffic.champion, arm="champion", propensity=1.0, route="fallback"
            )
            if second is None:
                self.predictions.append(msgspec.structs.replace(back, status=500, error="it failed"))
                return
            self.predictions.append(msgspec.structs.replace(back, output=[second]))
        else:
            other = self._other(beside, truth) if traffic.paired and beside is not None else None
            self.predictions.append(msgspec.structs.replace(record, output=[answer], other=other))
        if labels:
            self.outcomes.append(Outcome(id=record.id, at=record.at, label=truth))

    def _truth(self) -> Any:
        return float(self.random.normal()) if self.task == "regression" else int(self.random.integers(2))

    def _ask(self, version: int, truth: Any) -> Any:
        """Return the version's answer; None when it fails."""
        behaviour = self.behaviour[version]
        if self.random.random() < behaviour.fails:
            return None
        if self.task == "regression":
            return truth + float(self.random.normal(0, behaviour.wrong))
        return 1 - truth if self.random.random() < behaviour.wrong else truth

    def _other(self, version: int, truth: Any) -> Other:
        answer = self._ask(version, truth)
        return Other(version=version, error="it failed") if answer is None else Other(version=version, output=[answer])

    def _record(self, version: int, arm: Arm, propensity: float) -> Prediction:
        latency = self.behaviour[version].latency_us * float(self.random.lognormal(0, 0.3))
        return Prediction(
            id=f"r{self.requests}",
            at=micros(self.store.clock.now()),
            model=MODEL,
            version=version,
            arm=arm,
            propensity=propensity,
            unit="",
            status=200,
            features=[[0.0, 0.0]],
            output=[],
            latency_us=int(latency),
        )

    def behave(self, version: int, **changes: Any) -> None:
        """Let a version behave otherwise from now on."""
        self.behaviour[version] = replace(self.behaviour.get(version, Behaviour()), **changes)

    def close(self) -> None:
        """Let go of the segments."""
        self.predictions.close()
        self.outcomes.close()


def start_trial(store: Store, task: str = "binary") -> Trial:
    """Register three versions of a model, the first of them champion with all the traffic."""
    random = np.random.default_rng(1)
    frame = pl.DataFrame({"weight": random.normal(size=200), "size": random.normal(size=200)})
    signal = (frame["weight"] + frame["size"]).to_numpy()
    fitted = (
        LinearRegression().fit(frame.to_pandas(), signal)
        if task == "regression"
        else LogisticRegression().fit(frame.to_pandas(), (signal > 0).astype(int))
    )
    bundle = save_bundle(store, Model(fitted, example=frame.head(20)), rows=frame)
    for number in (1, 2, 3):
        register_model(store, MODEL, bundle, metrics={"accuracy": 0.9, "rmse": 1.0}, facets={"number": number})
    promote(store, MODEL, 1, by="test", reason="the first one")
    trial = Trial(store=store, task=task)
    for version in (1, 2, 3):
        trial.behave(version)
    return trial


@pytest.fixture
def trial(store: Store) -> Iterator[Trial]:
    """A classifier on SQLite."""
    begun = start_trial(store)
    yield begun
    begun.close()


@pytest.fixture
def any_trial(any_store: Store) -> Iterator[Trial]:
    """A classifier on each database."""
    begun = start_trial(any_store)
    yield begun
    begun.close()


@pytest.fixture
def begin_trial(store: Store) -> Iterator[Callable[[str], Trial]]:
    """Start a trial of a task of one's own."""
    begun: list[Trial] = []

    def start(task: str) -> Trial:
        begun.append(start_trial(store, task))
        return begun[-1]

    yield start
    for one in begun:
        one.close()
