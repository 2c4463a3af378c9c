"""Registered models to ship: numbers alone, text besides, regression, and one that ONNX cannot hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import ManualClock
from tidewheel.database.database import open_database
from tidewheel.database.migrate import prepare
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import save_bundle
from tidewheel.models.model import Model
from tidewheel.registry.versions import register_model


def numbers() -> pl.DataFrame:
    random = np.random.default_rng(3)
    return pl.DataFrame({"a": random.normal(size=300), "b": random.normal(size=300), "n": random.integers(0, 9, 300)})


@dataclass(frozen=True)
class Yard:
    """A store with one version of each model."""

    store: Store
    rows: dict[str, pl.DataFrame]


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    folder = tmp_path_factory.mktemp("yard")
    database = open_database(f"sqlite:///{folder / 'tidewheel.db'}")
    prepare(database, import_tables)
    store = Store(database=database, blobs=FolderBlobs(folder / "blobs"), clock=ManualClock(), home=folder)
    plain = numbers()
    texts = plain.with_columns(color=pl.Series(np.random.default_rng(4).choice(["red", "blue"], 300)))
    parts = ColumnTransformer([("color", OneHotEncoder(), ["color"])], remainder="passthrough")
    label = plain["a"].to_numpy() > 0
    made = {
        "trees": (HistGradientBoostingClassifier(max_iter=20).fit(plain, label.astype(int)), plain),
        "colors": (make_pipeline(parts, LogisticRegression()).fit(texts, np.where(label, "yes", "no")), texts),
        "line": (LinearRegression().fit(plain, 3 * plain["a"].to_numpy() + plain["n"].to_numpy()), plain),
    }
    for name, (estimator, rows) in made.items():
        register_model(store, name, save_bundle(store, Model(estimator, example=rows.head(50)), rows=rows))
    moments = plain.with_columns(when=pl.datetime(2026, 1, 1) + pl.duration(hours=pl.col("n")))

    class Hours:
        classes_ = np.array([0, 1])

        def predict(self, frame: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            return (frame["when"].dt.hour() > 4).cast(pl.Int64).to_numpy()

    Hours.__module__, Hours.__qualname__ = __name__, "Hours"
    globals()["Hours"] = Hours
    bundle = save_bundle(store, Model(Hours(), example=moments.head(50), trust=True), rows=moments, trust=True)
    register_model(store, "hours", bundle)
    yield Yard(store, {name: rows for name, (_, rows) in made.items()})
    store.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
