"""A small shop of real models, trained once, and engines that serve them from a fresh store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import ManualClock
from tidewheel.database.database import open_database
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import Bundle, load_bundle, save_bundle
from tidewheel.models.model import Model
from tidewheel.predictions.log import read_log
from tidewheel.predictions.records import Prediction
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.traffic import Traffic, set_traffic
from tidewheel.registry.versions import get_model, register_model
from tidewheel.serving.engine import Engine
from tidewheel.serving.response import Response


def numbers(rows: int = 120, seed: int = 0) -> pl.DataFrame:
    """Two floats and a whole number."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {"a": random.normal(size=rows), "b": random.normal(size=rows), "n": random.integers(0, 9, size=rows)}
    )


def mixed(rows: int = 120) -> pl.DataFrame:
    """Text, a truth value, and a float that is null now and then."""
    random = np.random.default_rng(1)
    size = [None if value < 0.1 else float(value) for value in random.random(rows)]
    return pl.DataFrame(
        {"color": random.choice(["red", "green"], rows), "size": size, "new": random.random(rows) < 0.5}
    )


def _classifier(sign: float) -> Model:
    from sklearn.linear_model import LogisticRegression

    x = numbers()
    return Model(LogisticRegression().fit(x, (sign * x["a"].to_numpy() > 0).astype(int)), example=x)


def _wider() -> Model:
    from sklearn.linear_model import LogisticRegression

    x = numbers().with_columns(extra=pl.col("a") * 2.0)
    return Model(LogisticRegression().fit(x, (x["b"].to_numpy() > 0).astype(int)), example=x)


def _regression() -> Model:
    from sklearn.linear_model import LinearRegression

    x = numbers().drop("n")
    return Model(LinearRegression().fit(x, 100 * x["a"].to_numpy() + x["b"].to_numpy()), example=x)


def _colors(unknown: str) -> Model:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    x = mixed()
    parts = ColumnTransformer(
        [("color", OneHotEncoder(handle_unknown=unknown), ["color"]), ("size", SimpleImputer(), ["size", "new"])]
    )
    labels = np.where(x["color"].to_numpy() == "red", "yes", "no")
    return Model(make_pipeline(parts, LogisticRegression()).fit(x, labels), example=x)


MODELS: Mapping[str, Callable[[], tuple[Model, pl.DataFrame]]] = {
    "up": lambda: (_classifier(1.0), numbers()),
    "down": lambda: (_classifier(-1.0), numbers()),
    "wider": lambda: (_wider(), numbers().with_columns(extra=pl.col("a") * 2.0)),
    "line": lambda: (_regression(), numbers().drop("n")),
    "colors": lambda: (_colors("ignore"), mixed()),
    "strict": lambda: (_colors("error"), mixed()),
}


class Bakery:
    """Bundles, each made once per test session."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made: dict[str, Bundle] = {}

    def bundle(self, kind: str, into: Store) -> Bundle:
        """Return the bundle of a kind, its blobs copied into another store."""
        if kind not in self._made:
            model, rows = MODELS[kind]()
            self._made[kind] = save_bundle(self._store, model, rows=rows)
        made = self._made[kind]
        for digest in (made.digest, *(entry.digest for entry in made.manifest.formats)):
            into.blobs.put(self._store.blobs.get(digest))
        return load_bundle(into, made.digest)

    def rows(self, kind: str) -> pl.DataFrame:
        """Return the rows that a kind was trained on."""
        return MODELS[kind]()[1]


@pytest.fixture(scope="session")
def bakery(tmp_path_factory: pytest.TempPathFactory) -> Bakery:
    folder = tmp_path_factory.mktemp("bakery")
    database = open_database(f"sqlite:///{folder / 'unused.db'}")
    return Bakery(Store(database=database, blobs=FolderBlobs(folder), clock=ManualClock(), home=folder))


class Shop:
    """A store with registered models, and the engine in front of it."""

    def __init__(self, store: Store, bakery: Bakery) -> None:
        self.store = store
        self.engine = Engine(store)
        self._bakery = bakery

    def register(self, kind: str, model: str = "bikes") -> int:
        """Register a bundle as the next version of a model; return its number."""
        return register_model(self.store, model, self._bakery.bundle(kind, self.store)).seq

    def deploy(self, champion: int, model: str = "bikes", **traffic: Any) -> Traffic:
        """Move the traffic and let the engine follow."""
        moved = set_traffic(self.store, model, champion=champion, by="test", reason="a test", **traffic)
        self.engine.refresh()
        return moved

    def post(self, path: str, content: Any, **headers: str) -> Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return self.engine.handle("POST", path, sent, body)

    def get(self, path: str) -> Response:
        return self.engine.handle("GET", path, [], b"")

    def ask(self, content: Any, model: str = "bikes", **headers: str) -> dict[str, Any]:
        """Predict and return the answer, which must be one."""
        response = self.post(f"/predict/{model}", content, **headers)
        assert response.status == 200, response.body
        answer: dict[str, Any] = json.loads(response.body)
        return answer

    def model_blob(self, version: int, model: str = "bikes") -> Path:
        """Return the file that holds the weights of a version."""
        bundle = load_bundle(self.store, get_model(self.store, f"{model}:{version}").bundle_digest)
        digest = bundle.manifest.formats[0].digest.removeprefix("sha256:")
        (found,) = (p for p in (self.store.home / "blobs").rglob("*") if p.is_file() and digest[4:] in str(p))
        return found

    def log(self, model: str = "bikes") -> list[Prediction]:
        return read_log(log_folder(self.store.home, model)).records

    def metric(self, name: str, **labels: object) -> float:
        """Return the sum of the samples of a metric whose labels include the given ones."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in self.get("/metrics").body.decode().splitlines() if not line.startswith("#")]
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(each in line for each in wanted))


@pytest.fixture
def shop(store: Store, bakery: Bakery) -> Iterator[Shop]:
    """A store with two versions of `bikes`, version 1 (up) deployed; version 2 (down) answers the opposite."""
    opened = Shop(store, bakery)
    opened.register("up")
    opened.register("down")
    opened.deploy(1)
    yield opened
    opened.engine.close()
