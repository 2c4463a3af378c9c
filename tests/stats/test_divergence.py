"""Divergences against SciPy, and their null laws against simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import spatial, stats

from tidewheel.errors import InvalidInput
from tidewheel.stats.divergence import (
    js,
    ks,
    ks_from_counts,
    ks_null_quantile,
    occupied_cells,
    psi,
    psi_null_quantile,
)

counts = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20)


@given(counts)
@settings(max_examples=200, deadline=None)
def test_psi_is_both_relative_entropies_of_scipy(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    if a.sum() == 0 or b.sum() == 0:
        assert psi(a, b) == 0.0
        return
    occupied = (a + b) > 0
    p, q = a[occupied] + 0.5, b[occupied] + 0.5
    assert psi(a, b) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), abs=1e-12)
    assert psi(a, b) == pytest.approx(psi(b, a))
    assert occupied_cells(a, b) == occupied.sum()


@given(counts)
@settings(max_examples=200, deadline=None)
def test_js_is_the_distance_of_scipy(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    expected = spatial.distance.jensenshannon(a, b, base=2) if a.sum() and b.sum() else 0.0
    assert js(a, b) == pytest.approx(0.0 if math.isnan(expected) else expected, abs=1e-7)


@pytest.mark.filterwarnings("ignore:ks_2samp")
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=60),
    st.lists(st.integers(0, 12), min_size=1, max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_ks_is_the_statistic_of_scipy(a: list[int], b: list[int]) -> None:
    expected = stats.ks_2samp(a, b, method="exact").statistic
    assert ks(a, b) == pytest.approx(expected)
    assert ks_from_counts(np.bincount(a, minlength=13), np.bincount(b, minlength=13)) == pytest.approx(expected)


def test_binned_ks_bounds_the_exact_one_from_below() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=1000), rng.normal(0.2, size=300)
    edges = np.quantile(a, np.linspace(0, 1, 33))[1:-1]
    binned = ks_from_counts(*(np.bincount(np.searchsorted(edges, x), minlength=32) for x in (a, b)))
    assert 0.7 * ks(a, b) < binned <= ks(a, b)


@pytest.mark.parametrize(("n_ref", "n_cur"), [(5_000, 300), (1_000, 1_000), (100_000, 2_000)])
def test_psi_null_quantile_holds_in_simulation(n_ref: int, n_cur: int) -> None:
    rng = np.random.default_rng(7)
    shares = np.full(16, 1 / 16)
    found = [psi(rng.multinomial(n_ref, shares), rng.multinomial(n_cur, shares)) for _ in range(4000)]
    above = np.mean(np.array(found) > psi_null_quantile(n_ref, n_cur, 16, 0.95))
    assert 0.025 < above < 0.07


def test_psi_null_quantile_is_the_chi_square_of_scipy() -> None:
    assert psi_null_quantile(400, 100, 10, 0.99) == pytest.approx(stats.chi2.ppf(0.99, 9) / 80)
    assert psi_null_quantile(400, 100, 1, 0.99) == 0.0


def test_ks_null_quantile_is_the_limit_law_of_scipy() -> None:
    expected = stats.kstwobign.ppf(0.95) * math.sqrt(1 / 500 + 1 / 200)
    assert ks_null_quantile(500, 200, 0.95) == pytest.approx(expected)
    assert ks_null_quantile(1, 1, 0.999) == 1.0


def test_one_outlier_does_not_move_the_divergence() -> None:
    from tidewheel.stats.column import comparison_cells
    from tidewheel.stats.profile import count_values, profile_frame

    pl = pytest.importorskip("polars")
    rng = np.random.default_rng(0)
    column = profile_frame(pl.DataFrame({"x": rng.normal(size=20_000)})).columns["x"]
    shifted = rng.normal(1.0, size=2000)
    with_outlier = np.append(shifted, 1e6)
    clean, dirty = (
        psi(comparison_cells(column), comparison_cells(column, count_values(column, x)))
        for x in (shifted, with_outlier)
    )
    assert clean > 0.5
    assert dirty == pytest.approx(clean, rel=0.01)


def test_different_cells_are_refused() -> None:
    with pytest.raises(InvalidInput, match="same edges"):
        psi([1, 2], [1, 2, 3])
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        psi_null_quantile(100, 100, 10, 1.0)
    with pytest.raises(InvalidInput, match="at least one value"):
        ks_null_quantile(0, 100, 0.9)


@pytest.mark.parametrize("measure", [psi, js, ks_from_counts])
def test_an_empty_side_is_no_evidence(measure: object) -> None:
    assert callable(measure)
    assert measure([0, 0], [1, 2]) == 0.0
    assert measure([1, 2], [0, 0]) == 0.0
