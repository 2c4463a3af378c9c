"""Tree ensembles as arrays of leaves: each leaf with the interval that every feature on its path must lie in.

A path of any length holds each feature once: its splits are intersected to one interval, the shares of the training
rows that took them are multiplied. So a leaf answers for a row when every interval holds the row's value, and all
leaves are asked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tidewheel.explaining.records import Floats

MOST_LEAVES = 400_000  # more take too long to lay out and to ask; such a model is explained by sampling
WIDTHS = (2, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 1024)  # paths are laid out in groups of like length
CHUNK = 2_048  # leaves that are asked at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One binary tree; a node whose left child is negative is a leaf."""

    left: Sequence[int]  # child where value <= threshold
    right: Sequence[int]  # the other child
    feature: Sequence[int]  # column that a node splits on
    threshold: Sequence[float]  # largest value that goes left
    missing_left: Sequence[bool]  # whether a missing value goes left
    cover: Sequence[float]  # training rows that came through, by weight; all 1 where nobody has counted
    value: Floats  # [nodes, outputs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Leaves of paths of about the same length; what a shorter path lacks holds for every row."""

    feature: np.ndarray[tuple[int, int], np.dtype[np.intp]]  # [leaves, width]
    low: Floats  # [leaves, width] values above it pass
    high: Floats  # [leaves, width] values up to it pass
    missing: np.ndarray[tuple[int, int], np.dtype[np.bool_]]  # [leaves, width] whether a missing value passes
    share: Floats  # [leaves, width] share of the training rows that pass
    value: Floats  # [leaves, outputs]

    def passes(self, row: Floats) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """Return [leaves, width] whether the value of a row passes."""
        found = row[self.feature]
        inside: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = (found > self.low) & (found <= self.high)
        return inside | (self.missing & np.isnan(found)) if np.isnan(row).any() else inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Trees whose values add up."""

    chunks: tuple[tuple[Leaves, ...], ...]  # about the same number of trees each, in a random order
    constant: Floats  # [outputs] what is added to every answer
    single: bool  # whether values are compared as 32-bit floats

    @property
    def outputs(self) -> int:
        """How many numbers it answers with."""
        return len(self.constant)

    def rounded(self, row: Sequence[object] | Floats) -> Floats:
        """Return a row as it is compared."""
        found = np.asarray(row, dtype=np.float64)
        return found.astype(np.float32).astype(np.float64) if self.single else found

    def answer(self, row: Floats) -> Floats:
        """Return the sum of the leaves that a (rounded) row falls into."""
        total = self.constant.copy()
        for leaves in (each for chunk in self.chunks for each in chunk):
            total += leaves.value[leaves.passes(row).all(axis=1)].sum(axis=0)
        return total


def ensemble_of(trees: Sequence[Tree], constant: Floats, *, single: bool, seed: int = 0) -> Ensemble | None:
    """Lay out trees; None when there are too many leaves."""
    if sum(_count(tree) for tree in trees) > MOST_LEAVES:
        return None
    order = np.random.default_rng(seed).permutation(len(trees))
    parts = np.array_split(order, max(1, sum(_count(tree) for tree in trees) // CHUNK))
    chunks = [_grouped([path for place in part for path in _paths(trees[place])]) for part in parts if len(part)]
    return Ensemble(chunks=tuple(chunks), constant=constant, single=single)


@dataclass(frozen=True, slots=True)
class _Path:
    steps: dict[int, tuple[float, float, bool, float]]  # feature: low, high, missing, share
    value: Floats


def _count(tree: Tree) -> int:
    return sum(1 for left in tree.left if left < 0)


def _paths(tree: Tree) -> Iterator[_Path]:
    waiting: list[tuple[int, dict[int, tuple[float, float, bool, float]]]] = [(0, {})]
    while waiting:
        node, steps = waiting.pop()
        left, right = int(tree.left[node]), int(tree.right[node])
        if left < 0:
            yield _Path(steps, tree.value[node])
            continue
        feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
        low, high, missing, share = steps.get(feature, (-np.inf, np.inf, True, 1.0))
        goes_left, cover = bool(tree.missing_left[node]), tree.cover
        ways = (
            (left, low, min(high, threshold), missing and goes_left),
            (right, max(low, threshold), high, missing and not goes_left),
        )
        for child, floor, ceiling, passes in ways:
            part = share * cover[child] / cover[node]
            waiting.append((child, {**steps, feature: (floor, ceiling, passes, part)}))


def _grouped(paths: Sequence[_Path]) -> tuple[Leaves, ...]:
    groups: list[Leaves] = []
    floor = -1
    for width in WIDTHS:
        own = [path for path in paths if floor < len(path.steps) <= width]
        floor = width
        if own:
            groups.append(_laid_out(own, width))
    return tuple(groups)


def _laid_out(paths: Sequence[_Path], width: int) -> Leaves:
    shape = (len(paths), width)
    feature = np.zeros(shape, dtype=np.intp)
    low, high, share = np.full(shape, -np.inf), np.full(shape, np.inf), np.ones(shape)
    missing = np.ones(shape, dtype=np.bool_)
    for place, path in enumerate(paths):
        for slot, (column, (floor, ceiling, passes, part)) in enumerate(path.steps.items()):
            feature[place, slot] = column
            low[place, slot], high[place, slot] = floor, ceiling
            missing[place, slot], share[place, slot] = passes, part
    value = np.array([path.value for path in paths], dtype=np.float64)
    return Leaves(feature=feature, low=low, high=high, missing=missing, share=share, value=value)
