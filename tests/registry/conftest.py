"""Stores with a few registered versions of a small model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from tidewheel.clock import ManualClock
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import Bundle, save_bundle
from tidewheel.models.model import Model
from tidewheel.registry.versions import register_model

BundleOf = Callable[..., Bundle]
PassTime = Callable[[Store], None]


def _bundle_of(store: Store, slope: float = 1.0, **given: Any) -> Bundle:
    x = pl.DataFrame({"a": np.linspace(0.0, 1.0, 20), "b": np.linspace(1.0, 0.0, 20) ** 2})
    model = Model(LinearRegression().fit(x, slope * x["a"]), example=x)
    environment = {"python": "3.11.9", "packages": {"polars": "2.1.0"}}
    return save_bundle(store, model, rows=x, **{"environment": environment, **given})


def _pass_time(store: Store) -> None:
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(minutes=1))


@pytest.fixture(scope="session")
def bundle_of() -> BundleOf:
    """Fit a line of some slope and keep it."""
    return _bundle_of


@pytest.fixture(scope="session")
def pass_time() -> PassTime:
    """Let the clock of a test's store go on by a minute."""
    return _pass_time


def _filled(store: Store) -> Store:
    for slope in (1.0, 2.0, 3.0):
        register_model(store, "bikes", _bundle_of(store, slope), metrics={"rmse": 1.0 / slope})
        _pass_time(store)
    return store


@pytest.fixture
def bikes(store: Store) -> Store:
    """A store with three versions of bikes."""
    return _filled(store)


@pytest.fixture
def any_bikes(any_store: Store) -> Store:
    """The same on each database, for what locks, orders or commits."""
    return _filled(any_store)
