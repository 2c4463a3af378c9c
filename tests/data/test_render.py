"""Profiles and schemas as tables for people."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tidewheel.data.render import profile_rows, schema_rows
from tidewheel.data.schema import infer_schema
from tidewheel.stats.profile import profile_frame
from tidewheel.stats.quantile_sketch import histogram, sketch_of

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_profile_shows_each_column_on_a_line() -> None:
    frame = pl.DataFrame(
        {
            "at": [START + timedelta(hours=i) for i in range(100)],
            "n": list(range(100)),
            "sky": ["clear"] * 75 + ["rain"] * 25,
            "gone": pl.Series([None] * 100, dtype=pl.Float64),
        }
    )
    table = profile_rows(profile_frame(frame))
    assert [row[0] for row in table.rows] == ["at", "n", "sky", "gone"]
    lines = {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert lines["at"]["min"] == "2026-01-01T00:00:00+00:00"
    assert (lines["n"]["min"], lines["n"]["max"], lines["n"]["mean"]) == (0, 99, 49.5)
    assert lines["n"]["median"] == 49
    assert len(str(lines["n"]["histogram"])) == 16
    assert lines["sky"]["most frequent"] == "clear (75), rain (25)"
    assert lines["sky"]["histogram"] == "█▃"
    assert (lines["gone"]["missing"], lines["gone"]["histogram"]) == (100, "")


def test_values_that_may_be_frequent_by_chance_are_not_shown() -> None:
    table = profile_rows(profile_frame(pl.DataFrame({"x": np.random.default_rng(0).normal(size=5000)})))
    assert dict(zip(table.columns, table.rows[0], strict=True))["most frequent"] == ""


def test_a_schema_shows_roles_and_ranges() -> None:
    profile = profile_frame(pl.DataFrame({"hour": [0, 23] * 5, "sky": ["clear", "rain"] * 5, "cnt": [1.5, 2.5] * 5}))
    table = schema_rows(infer_schema(profile, label="cnt"))
    assert table.rows[0] == ("hour", "int", "", "0.0%", "0 to 23", "")
    assert table.rows[1] == ("sky", "string", "", "0.0%", "", "clear, rain")
    assert table.rows[2][2] == "label"


@pytest.mark.parametrize("size", [1, 7, 200, 20_000])
def test_histograms_from_a_sketch_agree_with_numpy(size: int) -> None:
    values = np.random.default_rng(size).gamma(2.0, size=size)
    distinct, counts = np.unique(values, return_counts=True)
    edges = np.linspace(0.0, values.max(), 9)
    found = histogram(sketch_of(distinct, counts), edges.tolist())
    expected, _ = np.histogram(values, edges)
    assert sum(found) == pytest.approx(size, rel=1e-3)
    assert found == pytest.approx(expected, abs=0.0 if size <= 256 else 0.02 * size)
