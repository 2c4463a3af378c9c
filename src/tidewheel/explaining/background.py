"""Rows that stand for what is not known of a row: drawn from a bundle's baseline, column by column."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidewheel.models.manifest import Manifest
from tidewheel.models.signature import Field
from tidewheel.stats.column import ColumnProfile
from tidewheel.stats.quantile_sketch import exact_values, quantile

ROWS = 100


def background_rows(manifest: Manifest, *, count: int = ROWS, seed: int = 0) -> list[list[Any]]:
    """Return rows whose columns are distributed as in training, each drawn evenly over its quantiles (Latin hypercube).

    A bundle keeps no training rows but its few golden ones; columns that cannot be drawn (datetimes, text of many
    levels) take their values from those. Columns are drawn apart, so what they have in common is lost: contributions
    treat features as independent.
    """
    random = np.random.default_rng(seed)
    columns = []
    for place, field in enumerate(manifest.signature.fields):
        profile = manifest.baseline.columns.get(field.name)
        golden = [row[place] for row in manifest.golden.rows]
        values = _drawn(field, profile, count) if profile is not None else []
        values = values or [golden[number % len(golden)] for number in range(count) if golden] or [None] * count
        columns.append([values[number] for number in random.permutation(count)])
    return [list(row) for row in zip(*columns, strict=True)]


def column_means(manifest: Manifest) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return the mean of every column in training; None when one has none."""
    profiles = [manifest.baseline.columns.get(field.name) for field in manifest.signature.fields]
    means = [None if each is None else _mean(each) for each in profiles]
    return None if None in means else np.asarray(means, dtype=np.float64)


def _mean(profile: ColumnProfile) -> float | None:
    if profile.kind == "boolean" and profile.categories:
        counts = dict(zip(profile.categories, profile.cells, strict=False))
        return counts.get("true", counts.get("True", 0)) / max(sum(counts.values()), 1)
    return profile.mean


def _drawn(field: Field, profile: ColumnProfile, count: int) -> list[Any]:
    shares = (np.arange(count) + 0.5) / count
    if field.kind in ("float", "int"):
        return _numbers(field, profile, shares)
    if field.kind in ("bool", "string") and profile.categories:
        sizes = np.cumsum(profile.cells[: len(profile.categories)])
        places = np.searchsorted(sizes, shares * sizes[-1], side="left")
        levels = [profile.categories[min(place, len(sizes) - 1)] for place in places]
        return [level.lower() == "true" for level in levels] if field.kind == "bool" else levels
    return []


def _numbers(field: Field, profile: ColumnProfile, shares: np.ndarray[Any, Any]) -> list[Any]:
    missing = profile.missing / profile.count if profile.count and field.nullable else 0.0
    present = [(share - missing) / (1 - missing) if missing < 1 else 0.0 for share in shares]
    whole = field.kind == "int" or exact_values(profile.spread) is not None
    values = [quantile(profile.spread, max(share, 0.0)) for share in present]
    found = [None if share < missing else value for share, value in zip(shares, values, strict=True)]
    if field.kind == "int" and whole:
        return [None if value is None else round(value) for value in found]
    return found if any(value is not None for value in found) else []
