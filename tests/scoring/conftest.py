"""A store with registered models of numbers and of text, and rows for them."""

from __future__ import annotations

from collections.abc import Iterator
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
from tidewheel.models.bundle import Bundle, load_bundle, save_bundle
from tidewheel.models.model import Model
from tidewheel.registry.promotion import promote
from tidewheel.registry.versions import register_model


def numbers(rows: int = 300, seed: int = 3) -> pl.DataFrame:
    """Two floats, a whole number, and a key."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "a": random.normal(size=rows),
            "b": random.normal(size=rows),
            "n": random.integers(0, 9, rows),
            "id": [f"ride-{number}" for number in range(rows)],
        }
    )


def texts(rows: int = 300) -> pl.DataFrame:
    """The same with a color."""
    color = np.random.default_rng(4).choice(["red", "blue"], rows)
    return numbers(rows).with_columns(color=pl.Series(color))


class Foundry:
    """Bundles, made once per session."""

    def __init__(self, store: Store) -> None:
        from sklearn.compose import ColumnTransformer
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LinearRegression, LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder

        x, c = numbers().drop("id"), texts().drop("id")
        label = x["a"].to_numpy() > 0
        parts = ColumnTransformer([("color", OneHotEncoder(), ["color"])], remainder="passthrough")
        made = {
            "trees": (HistGradientBoostingClassifier(max_iter=20).fit(x, label.astype(int)), x),
            "colors": (make_pipeline(parts, LogisticRegression()).fit(c, np.where(label, "yes", "no")), c),
            "line": (LinearRegression().fit(x, 3 * x["a"].to_numpy() + x["n"].to_numpy()), x),
        }
        self._blobs = store.blobs
        self._bundles = {
            name: save_bundle(store, Model(estimator, example=rows.head(50)), rows=rows)
            for name, (estimator, rows) in made.items()
        }

    def put(self, name: str, store: Store) -> Bundle:
        """Copy a bundle into a store."""
        made = self._bundles[name]
        for digest in (made.digest, *(entry.digest for entry in made.manifest.formats)):
            store.blobs.put(self._blobs.get(digest))
        return load_bundle(store, made.digest)


@pytest.fixture(scope="session")
def foundry(tmp_path_factory: pytest.TempPathFactory) -> Foundry:
    folder = tmp_path_factory.mktemp("foundry")
    database = open_database(f"sqlite:///{folder / 'unused.db'}")
    return Foundry(Store(database=database, blobs=FolderBlobs(folder), clock=ManualClock(), home=folder))


@pytest.fixture
def yard(tmp_path: Path, foundry: Foundry) -> Iterator[Store]:
    """A store in a folder `home` with version 1 of each model, promoted."""
    home = tmp_path / "home"
    home.mkdir()
    database = open_database(f"sqlite:///{home / 'tidewheel.db'}")
    prepare(database, import_tables)
    store = Store(database=database, blobs=FolderBlobs(home / "blobs"), clock=ManualClock(), home=home)
    for name in ("trees", "colors", "line"):
        register_model(store, name, foundry.put(name, store))
        promote(store, name, 1, by="test", reason="a test")
    yield store
    store.close()
