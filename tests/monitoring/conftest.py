"""A small production: a real bundle in the registry's tables, real scores in real log segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression

from tidewheel.clock import micros
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import add_version, ensure_entity, move_alias
from tidewheel.models.bundle import Bundle, save_bundle
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import Arm, Other, Outcome, Prediction, Route, row_id
from tidewheel.predictions.segments import log_folder

MODEL = "apples"


def features(random: np.random.Generator, rows: int, shift: float = 0.0) -> pl.DataFrame:
    """Draw rows: weight (moved by `shift` deviations), size and a colour."""
    return pl.DataFrame(
        {"weight": random.normal(shift, 1.0, rows), "size": random.normal(0.0, 1.0, rows), "soft": random.random(rows)}
    )


def truth_of(frame: pl.DataFrame, random: np.random.Generator, noise: float = 0.1) -> NDArray[np.int64]:
    """Return the class of each row: whether weight + size is positive, turned over with probability `noise`."""
    clean = (frame["weight"] + frame["size"] > 0).to_numpy()
    return np.where(random.random(len(clean)) < noise, ~clean, clean).astype(np.int64)


@dataclass
class Production:
    """Writes what serving would write."""

    store: Store
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    requests: int = 0
    scorers: dict[int, Scorer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = log_folder(self.store.home, MODEL)
        self.predictions = LogWriter(folder, "w0")
        self.outcomes = LogWriter(folder, "w0", kind=Outcome)

    def register(self, bundle: Bundle, metrics: dict[str, float] | None = None, *, champion: bool = True) -> int:
        """Add a version of the model and, unless told otherwise, make it the champion."""
        now = self.store.clock.now()
        with self.store.database.transaction() as tx:
            entity = ensure_entity(tx, "model", MODEL, at=now)
            version = add_version(tx, entity.id, at=now, digest=bundle.digest, facets={"metrics": metrics or {}})
            if champion:
                move_alias(tx, entity.id, "champion", version.id, at=now, by="test", reason="test")
        self.scorers[version.seq] = bundle.scorer()
        return version.seq

    def serve(
        self,
        frame: pl.DataFrame,
        version: int,
        *,
        arm: Arm = "champion",
        other: int | None = None,
        status: int = 200,
        route: Route = "split",
        latency_us: int = 900,
        rows_each: int = 1,
    ) -> list[str]:
        """Score rows and log them, one request for each `rows_each` of them; return the row ids."""
        ids: list[str] = []
        at = micros(self.store.clock.now())
        for start in range(0, frame.height, rows_each):
            part = frame.slice(start, rows_each)
            scores = self.scorers[version].score(part.to_dict(as_series=False))
            beside = None if other is None else self.scorers[other].score(part.to_dict(as_series=False))
            self.requests += 1
            request = f"r{self.requests}"
            self.predictions.append(
                Prediction(
                    id=request,
                    at=at + self.requests * 1_000,
                    model=MODEL,
                    version=version,
                    arm=arm,
                    propensity=1.0,
                    unit="",
                    status=status,
                    features=[list(row) for row in part.iter_rows()] if status < 400 or status >= 500 else [],
                    output=scores.prediction.tolist() if status == 200 else [],
                    probability=_listed(scores.probabilities) if status == 200 else None,
                    latency_us=latency_us,
                    other=None
                    if beside is None or other is None
                    else Other(
                        version=other, output=beside.prediction.tolist(), probability=_listed(beside.probabilities)
                    ),
                    error="" if status == 200 else "it failed",
                    route=route,
                )
            )
            ids += [row_id(request, row, part.height) for row in range(part.height)]
        self.predictions.flush()
        return ids

    def label(self, ids: Sequence[str], labels: Sequence[Any]) -> None:
        """Bring the truth about rows."""
        at = micros(self.store.clock.now())
        for position, (one, label) in enumerate(zip(ids, labels, strict=True)):
            self.outcomes.append(Outcome(id=one, at=at + position, label=label))
        self.outcomes.flush()

    def live(self, rows: int, version: int, *, noise: float = 0.1, shift: float = 0.0) -> None:
        """Serve rows and label them at once."""
        frame = features(self.random, rows, shift)
        ids = self.serve(frame, version)
        self.label(ids, truth_of(frame, self.random, noise).tolist())

    def close(self) -> None:
        """Let go of the segments."""
        self.predictions.close()
        self.outcomes.close()


def _listed(probabilities: NDArray[Any] | None) -> list[list[float]] | None:
    return None if probabilities is None else probabilities.tolist()


def classifier_bundle(store: Store, seed: int = 1, rows: int = 2_000) -> Bundle:
    """Fit and store a classifier whose error is that of the noise, 10 %."""
    random = np.random.default_rng(seed)
    frame = features(random, rows)
    fitted = LogisticRegression(C=100.0).fit(frame.to_pandas(), truth_of(frame, random, 0.0))
    return save_bundle(store, Model(fitted, example=frame.head(50), task="binary"), rows=frame)


def regressor_bundle(store: Store) -> Bundle:
    """Fit and store a regression of weight + size."""
    frame = features(np.random.default_rng(1), 1_000)
    fitted = LinearRegression().fit(frame.to_pandas(), (frame["weight"] + frame["size"]).to_numpy())
    return save_bundle(store, Model(fitted, example=frame.head(50), task="regression"), rows=frame)


@pytest.fixture
def live(store: Store) -> Iterator[Production]:
    """A production on SQLite whose champion is version 1, with 90 % holdout accuracy."""
    production = Production(store=store)
    production.register(classifier_bundle(store), {"accuracy": 0.9})
    yield production
    production.close()


@pytest.fixture
def any_live(any_store: Store) -> Iterator[Production]:
    """The same on each database."""
    production = Production(store=any_store)
    production.register(classifier_bundle(any_store), {"accuracy": 0.9})
    yield production
    production.close()


@pytest.fixture
def draw() -> Callable[..., pl.DataFrame]:
    """Draw feature rows."""
    return features


@pytest.fixture
def make_bundle() -> Callable[..., Bundle]:
    """Fit and store another classifier."""
    return classifier_bundle


@pytest.fixture
def make_regressor() -> Callable[..., Bundle]:
    """Fit and store a regression."""
    return regressor_bundle
