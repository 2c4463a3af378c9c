"""Rows with numbers, texts and a label, as the built-in steps meet them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest


@pytest.fixture(scope="session")
def houses() -> pl.DataFrame:
    """Two hundred houses: two numbers, a town, an owner with several houses, a day, a price and a class."""
    generator = np.random.default_rng(7)
    size = generator.normal(100, 30, 200)
    return pl.DataFrame(
        {
            "size": size,
            "rooms": generator.integers(1, 7, 200),
            "town": generator.choice(["Delft", "Gouda", "Leiden"], 200),
            "owner": generator.integers(0, 40, 200).astype(str),
            "day": np.arange(200) // 3,
            "price": size * 3 + generator.normal(0, 10, 200),
            "sold": generator.choice(["no", "yes"], 200, p=[0.7, 0.3]),
        }
    )
