"""Synthetic streams move as they say."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tidewheel.errors import InvalidInput
from tidewheel.stats.column import comparison_cells
from tidewheel.stats.divergence import psi
from tidewheel.stats.profile import profile_frame
from tidewheel.testing.streams import SEA_THRESHOLDS, growing_demand, sea, shifting_covariates

STREAMS = [sea, shifting_covariates, growing_demand]


def drift(frame: pl.DataFrame, column: str) -> float:
    half = frame.height // 2
    baseline = profile_frame(frame.head(half))
    later = profile_frame(frame.tail(half), edges_from=baseline).columns[column]
    return psi(comparison_cells(baseline.columns[column]), comparison_cells(baseline.columns[column], later.cells))


@pytest.mark.parametrize("stream", STREAMS)
def test_the_same_seed_gives_the_same_table(stream: Callable[..., pl.DataFrame]) -> None:
    assert stream(500, seed=3).equals(stream(500, seed=3))
    assert not stream(500, seed=3).equals(stream(500, seed=4))
    times = stream(100)["event_time"]
    assert times[0] == datetime(2026, 1, 1, tzinfo=UTC)
    assert times.diff().drop_nulls().unique().to_list() == [timedelta(hours=1)]
    assert stream(1).height == 1
    assert stream(500).null_count().sum_horizontal()[0] == 0


@pytest.mark.parametrize("stream", STREAMS)
def test_no_rows_are_refused(stream: Callable[..., pl.DataFrame]) -> None:
    with pytest.raises(InvalidInput, match="1 row or more"):
        stream(0)


def test_sea_switches_its_rule_and_not_its_features() -> None:
    frame = sea(8000, noise=0.1)
    assert max(drift(frame, name) for name in ("x1", "x2", "x3")) < 0.05
    for block, threshold in enumerate(SEA_THRESHOLDS):
        part = frame[2000 * block : 2000 * (block + 1)]
        agrees = ((part["x1"] + part["x2"] <= threshold) == (part["label"] == 1)).mean()
        assert agrees == pytest.approx(0.9, abs=0.02)


def test_covariates_shift_and_the_rule_stays() -> None:
    frame = shifting_covariates(20_000)
    assert drift(frame, "x1") > 0.5
    assert drift(frame, "site") > 0.5
    assert drift(frame, "x3") < 0.02
    chance = 1.0 / (1.0 + np.exp(2.0 - frame["x1"].to_numpy() - frame["x2"].to_numpy() ** 2))
    for half in (slice(0, 10_000), slice(10_000, 20_000)):
        assert frame["label"].to_numpy()[half].mean() == pytest.approx(chance[half].mean(), abs=0.02)


def test_demand_grows() -> None:
    frame = growing_demand(24 * 365 * 2, growth=1.0)
    first, second = frame["demand"][: 24 * 365].mean(), frame["demand"][24 * 365 :].mean()
    assert isinstance(first, float)
    assert isinstance(second, float)
    assert second / first == pytest.approx(1.75 / 1.25, rel=0.05)
    assert frame["demand"].min() > 0  # type: ignore[operator]
