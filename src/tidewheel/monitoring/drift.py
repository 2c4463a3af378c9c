"""Compare the counts of a window with the baseline, next to what chance alone would do with so many rows.

The cells of the baseline are joined until it holds five rows in each and the window can be expected to, at most ten:
so few that the chi-square law of the index holds (Yurdakul 2018), and a window of a hundred rows is judged as
soberly as one of a million. Cells that the baseline never filled stay apart: mass there is news, whatever the law.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidewheel.models.baseline import PROBABILITY
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.monitoring.records import ColumnDrift
from tidewheel.stats.column import ColumnProfile, ordered_cells
from tidewheel.stats.divergence import ks_from_counts, ks_null_quantile, occupied_cells, psi, psi_null_quantile
from tidewheel.stats.profile import Profile

Counts = NDArray[np.int64]

MOST_GROUPS = 10
EXPECTED_ROWS = 5.0
# A baseline scored in 64 bits is full of edges like 1e-40 near certainty, where a served 32-bit model says 0.
PROBABILITY_STEP = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """The same groups of cells on both sides."""

    reference: Counts  # rows of the baseline in each group
    current: Counts  # rows of the window in each group


def compare_columns(baseline: Profile, cells: Mapping[str, list[int]], policy: MonitorPolicy) -> list[ColumnDrift]:
    """Compare each counted column with the baseline, the strongest drift first.

    The policy's level holds for all columns of the window together (Bonferroni).
    """
    counted = {name: counts for name, counts in cells.items() if sum(counts) and baseline.columns[name].count}
    quantile = 1.0 - (1.0 - policy.level) / max(len(counted), 1)
    found = [compare_column(name, baseline.columns[name], counts, policy, quantile) for name, counts in counted.items()]
    return sorted(found, key=lambda drift: (not drift.drifted, -drift.psi))


def compare_column(
    name: str, reference: ColumnProfile, cells: Iterable[int], policy: MonitorPolicy, quantile: float
) -> ColumnDrift:
    """Compare one column; `quantile` is the share of undrifted windows inside the band of this column."""
    current = np.fromiter(cells, dtype=np.int64)
    before = np.array(reference.cells, dtype=np.int64)
    rows = int(current.sum())
    groups = group_cells(reference, current, resolution=PROBABILITY_STEP if name == PROBABILITY else 0.0)
    index = psi(groups.reference, groups.current)
    index_band = psi_null_quantile(reference.count, rows, occupied_cells(groups.reference, groups.current), quantile)
    distance, distance_band = _ordered_distance(reference, current, quantile)
    unknown = _unknown_rows(reference, current) / rows
    drifted = (policy.psi is not None and index >= policy.psi and index > index_band) or (
        policy.ks is not None
        and distance is not None
        and distance_band is not None
        and distance >= policy.ks
        and distance > distance_band
    )
    return ColumnDrift(
        name=name,
        rows=rows,
        psi=index,
        psi_band=index_band,
        ks=distance,
        ks_band=distance_band,
        missing=float(current[-1] / rows - before[-1] / before.sum()),
        unknown=unknown,
        drifted=drifted,
    )


def group_cells(reference: ColumnProfile, current: Counts, *, resolution: float = 0.0) -> Grouped:
    """Join cells until each has five expected rows or more, at most ten of them; see the head of this file.

    `resolution` is the least width of a group of ranges: differences below it are rounding, not drift.
    """
    before = np.array(reference.cells, dtype=np.int64)
    if reference.kind == "other":
        return Grouped(reference=before, current=current)
    enough = EXPECTED_ROWS * max(before.sum() / max(int(current.sum()), 1), 1.0)
    cells = _cells_of(reference, enough)
    held = before[cells.joinable]
    least = max(held.sum() / MOST_GROUPS, enough)
    labels = _group_labels(held, cells.starts, least, resolution)
    groups = int(labels.max(initial=-1)) + 1
    joined = [
        np.concatenate(
            [
                np.bincount(labels, weights=side[cells.joinable], minlength=groups),
                [side[cell].sum() for cell in cells.apart],
            ]
        ).astype(np.int64)
        for side in (before, current)
    ]
    return Grouped(reference=joined[0], current=joined[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """Which cells of a column may be joined with their neighbours."""

    joinable: NDArray[np.intp]  # cells, in order
    starts: NDArray[np.float64]  # where each of them begins, for columns with ranges; else its position
    apart: list[list[int]]  # groups that stay apart


def _cells_of(reference: ColumnProfile, enough: float) -> _Cells:
    """Sort the cells; `enough` is the count of the baseline from which on a category is common."""
    last = len(reference.cells) - 1  # missing values
    if reference.kind in ("numeric", "temporal"):
        if reference.atoms:  # single values: any other value is news
            joinable = np.arange(1, last - 1)
            return _Cells(joinable=joinable, starts=joinable.astype(np.float64), apart=[[0, last - 1], [last]])
        # Ranges: growth beyond the range is mass of the outer group.
        starts = np.array([-np.inf, *reference.edges][:last], dtype=np.float64)
        return _Cells(joinable=np.arange(last), starts=starts, apart=[[last]])
    # Categories: unseen ones are expected where rare ones are, so they make one group.
    common = np.array([cell for cell in range(last - 1) if reference.cells[cell] >= enough], dtype=np.intp)
    rare = [cell for cell in range(last) if cell >= last - 1 or reference.cells[cell] < enough]
    return _Cells(joinable=common, starts=common.astype(np.float64), apart=[rare, [last]])


def _group_labels(counts: Counts, starts: NDArray[np.float64], least: float, resolution: float) -> NDArray[np.intp]:
    """Number the groups that neighbouring cells form when each must hold at least `least` rows."""
    labels = np.zeros(len(counts), dtype=np.intp)
    group, held, begun = 0, 0.0, starts[np.isfinite(starts)].min(initial=np.inf)
    for cell, count in enumerate(counts):
        if held >= least and counts[cell:].sum() >= least and starts[cell] - begun >= resolution:
            group, held, begun = group + 1, 0.0, starts[cell]
        labels[cell] = group
        held += count
    return labels


def _ordered_distance(reference: ColumnProfile, current: Counts, quantile: float) -> tuple[float | None, float | None]:
    """Return KS distance and its band; None for columns without order or without values."""
    if reference.kind not in ("numeric", "temporal"):
        return None, None
    before, now = ordered_cells(reference), ordered_cells(reference, current)
    if not before.sum() or not now.sum():
        return None, None
    return ks_from_counts(before, now), ks_null_quantile(int(before.sum()), int(now.sum()), quantile)


def _unknown_rows(reference: ColumnProfile, current: Counts) -> int:
    """Return how many rows hold a value that the baseline would have listed, had it seen it."""
    if reference.kind in ("categorical", "boolean"):
        return 0 if reference.partial else int(current[-2])
    if reference.atoms:
        return int(current[0] + current[-2])
    return 0
