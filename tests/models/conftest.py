"""Rows that models are fitted on: numbers, whole numbers, booleans, text, missing values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest


@dataclass(frozen=True)
class Table:
    """Features and one label of each kind."""

    numbers: pl.DataFrame
    gaps: pl.DataFrame  # the same numbers with missing values
    mixed: pl.DataFrame  # with missing values and a text column
    two: pl.Series
    three: pl.Series
    amount: pl.Series


@pytest.fixture(scope="session")
def table() -> Table:
    random = np.random.default_rng(7)
    rows = 400
    numbers = pl.DataFrame(
        {
            **{f"f{i}": random.normal(size=rows) * 10**i for i in range(4)},
            "count": random.integers(0, 5, rows),
            "flag": random.integers(0, 2, rows).astype(bool),
        }
    )
    gap = pl.Series(random.random(rows) < 0.2)
    gaps = numbers.with_columns(
        pl.when(gap).then(None).otherwise(pl.col("f0")).alias("f0"),
        pl.when(gap.reverse()).then(None).otherwise(pl.col("count")).alias("count"),
    )
    signal = numbers["f0"] + 0.1 * numbers["f1"] + numbers["count"]
    return Table(
        numbers=numbers,
        gaps=gaps,
        mixed=gaps.with_columns(sky=pl.Series(random.choice(["clear", "rain", "snow"], rows))),
        two=(signal > 2).cast(pl.Int64),
        three=pl.Series(np.digitize(signal.to_numpy(), [1.0, 3.0])),
        amount=signal + pl.Series(random.normal(size=rows)),
    )
