"""Seeded synthetic streams: ordered tables whose world moves in a known way, for tests of monitors and loops.

Each table has a column `event_time` (UTC, ascending) and a label; the same arguments give the same table everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tidewheel.errors import InvalidInput

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEA_THRESHOLDS = (8.0, 9.0, 7.0, 9.5)


def sea(
    rows: int,
    *,
    seed: int = 0,
    thresholds: Sequence[float] = SEA_THRESHOLDS,
    noise: float = 0.1,
    step: timedelta = HOUR,
) -> pl.DataFrame:
    """Return the SEA concepts (Street & Kim 2001): the label's rule switches at equal distances, the features stay.

    `x1`, `x2`, `x3` are uniform in [0, 10]; `label` is 1 where x1 + x2 is at most the concept's threshold, and a share
    `noise` of labels is flipped. Input drift cannot see these switches; only labels can.

    >>> sea(4, seed=1).columns
    ['event_time', 'x1', 'x2', 'x3', 'label']
    """
    rng = _generator(rows, seed)
    features = rng.uniform(0.0, 10.0, (rows, 3))
    concept = np.arange(rows) * len(thresholds) // rows
    label = features[:, 0] + features[:, 1] <= np.asarray(thresholds)[concept]
    flipped = rng.uniform(size=rows) < noise
    columns = {f"x{i + 1}": features[:, i] for i in range(3)}
    return _table(rows, step, columns | {"label": (label ^ flipped).astype(np.int64)})


def shifting_covariates(
    rows: int, *, seed: int = 0, moved_from: float = 0.5, shift: float = 1.5, step: timedelta = HOUR
) -> pl.DataFrame:
    """Return rows whose features move from a share `moved_from` on while the label keeps following them by one rule.

    `x1` moves by `shift` standard deviations, `x2` widens by half, `site` gains a value `"new"`, `x3` stays. `label` is
    1 with probability 1 / (1 + exp(2 - x1 - x2^2)): a straight model fitted on the beginning is wrong at the end.

    >>> sorted(shifting_covariates(200)["site"].unique())
    ['new', 'north', 'south']
    """
    rng = _generator(rows, seed)
    moved = np.arange(rows) >= moved_from * rows
    x1 = rng.normal(size=rows) + shift * moved
    x2 = rng.normal(size=rows) * (1.0 + 0.5 * moved)
    site = np.array(["north", "south", "new"])[
        np.where(moved & (rng.uniform(size=rows) < 0.4), 2, rng.integers(0, 2, rows))
    ]
    chance = 1.0 / (1.0 + np.exp(2.0 - x1 - x2**2))
    label = (rng.uniform(size=rows) < chance).astype(np.int64)
    return _table(rows, step, {"x1": x1, "x2": x2, "x3": rng.normal(size=rows), "site": site, "label": label})


def growing_demand(
    rows: int, *, seed: int = 0, growth: float = 1.0, noise: float = 0.1, step: timedelta = HOUR
) -> pl.DataFrame:
    """Return a regression with growth, like the hourly hires of a new service.

    `demand` is a daily cycle over `hour`, more on warm hours (`temp`, yearly cycle) and less on days off (`holiday`),
    times a level that rises evenly from 1 to 1 + `growth`, times lognormal noise of scale `noise`.

    >>> demand = growing_demand(2000, growth=1.0)["demand"]
    >>> demand.tail(500).mean() > 1.4 * demand.head(500).mean()
    True
    """
    rng = _generator(rows, seed)
    hours = np.arange(rows) * (step / HOUR)
    hour = (hours % 24).astype(np.int64)
    temp = 0.5 + 0.3 * np.sin(2 * np.pi * hours / (24 * 365)) + rng.normal(0.0, 0.1, rows)
    holiday = (hours // 24 % 7 >= 5).astype(np.int64)
    cycle = 1.2 + np.sin(2 * np.pi * (hour - 9) / 24)
    level = 1.0 + growth * np.arange(rows) / rows
    demand = 100.0 * cycle * (0.6 + 0.8 * temp) * (1.0 - 0.3 * holiday) * level * rng.lognormal(0.0, noise, rows)
    return _table(rows, step, {"hour": hour, "temp": temp, "holiday": holiday, "demand": demand})


def _generator(rows: int, seed: int) -> np.random.Generator:
    if rows < 1:
        raise InvalidInput(f"A stream of {rows} rows was asked for.", "Ask for 1 row or more.")
    return np.random.default_rng(seed)


def _table(rows: int, step: timedelta, columns: Mapping[str, NDArray[Any]]) -> pl.DataFrame:
    moments = pl.datetime_range(START, START + step * (rows - 1), step, time_unit="us", time_zone="UTC", eager=True)
    return pl.DataFrame({"event_time": moments, **columns})
