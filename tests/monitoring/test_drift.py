"""Comparison with a baseline: no false alarm from small windows, no missed shift, no victim of one outlier."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tidewheel.monitoring.drift import compare_column, compare_columns, group_cells
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.monitoring.records import ColumnDrift
from tidewheel.stats.profile import Profile, count_values, count_window, profile_frame

POLICY = MonitorPolicy()


def draw(random: np.random.Generator, rows: int, shift: float = 0.0) -> dict[str, list[Any]]:
    """Return columns of every kind; `shift` moves the normal one."""
    columns: dict[str, list[Any]] = {
        f"normal{number}": random.normal(shift if number == 0 else 0.0, 1.0, rows).tolist() for number in range(8)
    }
    columns |= {f"skewed{number}": random.lognormal(0.0, 1.0, rows).tolist() for number in range(4)}
    columns |= {f"count{number}": random.poisson(3 * number + 1, rows).tolist() for number in range(3)}
    columns |= {
        f"level{levels}": (random.zipf(1.6, rows) % levels).astype(str).tolist() for levels in (2, 5, 12, 50, 200)
    }
    return columns


def baseline_of(random: np.random.Generator, rows: int) -> Profile:
    return profile_frame(pl.DataFrame(draw(random, rows)))


def compared(baseline: Profile, columns: dict[str, list[Any]], policy: MonitorPolicy = POLICY) -> list[ColumnDrift]:
    cells = {name: counts.tolist() for name, counts in count_window(baseline, columns).items()}
    return compare_columns(baseline, cells, policy)


@pytest.mark.parametrize("rows", [30, 100, 300, 1_000])
def test_windows_without_drift_raise_no_alarm_whatever_their_size(rows: int) -> None:
    """20 columns, 100 windows each; a fixed PSI of 0.1 fires on a third of windows of 100 rows (the notes, 2.2)."""
    random = np.random.default_rng(rows)
    baseline = baseline_of(random, 5_000)
    policy = MonitorPolicy(psi=0.02, ks=0.02)  # so low that the band alone has to hold
    alarms = sum(any(column.drifted for column in compared(baseline, draw(random, rows), policy)) for _ in range(100))
    assert alarms <= 1


def test_the_band_holds_the_stated_share_of_undrifted_windows() -> None:
    random = np.random.default_rng(1)
    baseline = baseline_of(random, 3_000).columns["normal0"]
    outside = 0
    for _ in range(2_000):
        cells = count_values(baseline, random.normal(0, 1, 200))
        column = compare_column("x", baseline, cells, POLICY, 0.95)
        outside += column.psi > column.psi_band
    # The baseline is one draw, so its own deviation is shared by all windows: up to twice the share is its luck.
    assert 2_000 * 0.01 <= outside <= 2_000 * 0.10


@pytest.mark.parametrize(("shift", "rows"), [(1.0, 100), (0.8, 300), (0.6, 1_000)])
def test_a_shift_is_found_and_the_right_column_is_blamed(shift: float, rows: int) -> None:
    random = np.random.default_rng(2)
    baseline = baseline_of(random, 5_000)
    found = 0
    for _ in range(20):
        columns = compared(baseline, draw(random, rows, shift))
        assert all(column.name == "normal0" for column in columns if column.drifted)
        found += columns[0].drifted
    assert found >= 16


def test_one_outlier_changes_no_verdict() -> None:
    random = np.random.default_rng(3)
    baseline = baseline_of(random, 5_000)
    calm, moved = draw(random, 500), draw(random, 500, 1.0)
    for columns, expected in ((calm, False), (moved, True)):
        columns["normal0"][0] = 1e6
        (column,) = [one for one in compared(baseline, columns) if one.name == "normal0"]
        assert column.drifted is expected


def test_new_values_of_a_constant_column_are_drift() -> None:
    baseline = profile_frame(pl.DataFrame({"pixel": [0.0] * 1_000, "sky": ["clear", "rain"] * 500}))
    drifted = compared(baseline, {"pixel": [0.0] * 140 + [3.0] * 60, "sky": ["clear", "snow"] * 100})
    assert [(column.name, column.drifted) for column in drifted] == [("sky", True), ("pixel", True)]
    assert drifted[0].unknown == pytest.approx(0.5)
    assert drifted[1].unknown == pytest.approx(0.3)
    assert drifted[0].ks is None


def test_missing_values_are_drift_and_reported_against_the_baseline() -> None:
    baseline = profile_frame(pl.DataFrame({"x": [*range(950), *[None] * 50]}))
    values: list[Any] = [*np.linspace(0, 949, 140).tolist(), *[None] * 60]
    (column,) = compared(baseline, {"x": values})
    assert column.drifted
    assert column.missing == pytest.approx(0.25)
    assert column.ks is not None
    assert column.ks < 0.05  # the values that are there have not moved


def test_rare_categories_are_joined_and_do_not_alarm() -> None:
    random = np.random.default_rng(4)
    levels = np.array([f"v{number}" for number in range(300)])
    weights = 1.0 / np.arange(1, 301) ** 1.1
    weights /= weights.sum()
    baseline = profile_frame(pl.DataFrame({"shop": random.choice(levels, 2_000, p=weights)}))
    alarms = 0
    for _ in range(200):
        (column,) = compared(baseline, {"shop": random.choice(levels, 200, p=weights).tolist()})
        alarms += column.drifted
    assert alarms == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 2_000), st.lists(st.floats(-5, 5), min_size=1, max_size=300))
def test_grouping_loses_no_row(rows: int, values: list[float]) -> None:
    reference = profile_frame(pl.DataFrame({"x": np.random.default_rng(rows).normal(size=rows)})).columns["x"]
    groups = group_cells(reference, count_values(reference, values))
    assert groups.reference.sum() == rows
    assert groups.current.sum() == len(values)
    assert len(groups.reference) <= 12


def test_ks_stays_below_that_of_the_raw_values_and_near_it() -> None:
    random = np.random.default_rng(5)
    before, now = random.normal(0, 1, 4_000), random.normal(0.3, 1, 1_000)
    reference = profile_frame(pl.DataFrame({"x": before})).columns["x"]
    column = compare_column("x", reference, count_values(reference, now), POLICY, 0.99)
    exact = float(stats.ks_2samp(before, now).statistic)
    assert column.ks is not None
    assert exact - 0.03 <= column.ks <= exact + 1e-9


def test_probabilities_near_certainty_that_differ_by_rounding_are_no_drift() -> None:
    """The baseline was scored in 64 bits; served in 32 bits, 1e-40 becomes 0 and 1 - 1e-12 becomes 1."""
    random = np.random.default_rng(6)
    exact = 1 / (1 + np.exp(-random.normal(0, 30, 2_000)))
    baseline = profile_frame(pl.DataFrame({"probability": exact}))
    served = (1 / (1 + np.exp(-random.normal(0, 30, 500)))).astype(np.float32).astype(np.float64)
    (column,) = compared(baseline, {"probability": served.tolist()})
    assert not column.drifted
    assert column.psi < 0.05
