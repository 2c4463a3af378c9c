"""Exact Shapley values of tree ensembles, along the paths of the trees or against background rows.

A leaf answers for a row when all features of its path pass. With o(j) whether the row's value passes and z(j) the share
of others that pass, the leaf's worth of a set of known features is v times the product of o over the known and z over
the unknown. Its Shapley values are one-dimensional integrals of the multilinear extension along the diagonal (Owen,
Multilinear extensions of games, 1972): v (o(i) - z(i)) times the integral over t of the product over j != i of
o(j) t + z(j) (1 - t), a polynomial that Gauss-Legendre quadrature integrates exactly. z from the training rows that
came through each split gives the path-dependent values of Lundberg et al., From local explanations to global
understanding with explainable AI for trees (2020); z of one background row is 0 or 1, the integral a fraction of
factorials, and the mean over background rows gives their interventional values.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import gammaln

from tidewheel.explaining.ensemble import Ensemble, Leaves
from tidewheel.explaining.records import Contributions, Floats, Method, Output

_LEAST = 1e-30  # stands for a factor of 0, so that it can be divided by
_FEWEST = 4  # chunks or background rows that are always asked: fewer have no standard error


@dataclass(frozen=True, slots=True, kw_only=True)
class PathShap:
    """Path-dependent values: what a feature adds among the training rows that share the path so far."""

    ensemble: Ensemble  # the trees, with covers
    features: int  # columns
    output: Output  # what is made up
    method: Method = "tree"  # exact
    base: Floats = field(default_factory=lambda: np.zeros(0))  # [outputs] mean answer of the training rows

    def explain_row(self, row: Sequence[Any], deadline: float) -> Contributions:
        """Explain one row; when the time ends, the trees asked so far stand for all of them."""
        rounded = self.ensemble.rounded(row)
        parts: list[Floats] = []
        total = len(self.ensemble.chunks)
        for chunk in self.ensemble.chunks:
            if len(parts) >= _FEWEST and time.perf_counter() > deadline:
                break
            parts.append(sum((_path_values(leaves, rounded, self.features) for leaves in chunk), np.zeros(1)))
        shape = (self.features, self.ensemble.outputs)
        stacked = np.array(parts).reshape(len(parts), *shape)
        errors = np.zeros(shape)
        if len(parts) < total:
            spread = stacked.std(axis=0, ddof=1)
            errors = total * spread * np.sqrt((1 - len(parts) / total) / len(parts))
        return Contributions(
            base=self.base,
            values=stacked.sum(axis=0) * (total / max(len(parts), 1)),
            errors=errors,
            answer=self.ensemble.answer(rounded),
            complete=len(parts) == total,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundShap:
    """Interventional values: what a feature adds when the features that are not known come from a background row."""

    ensemble: Ensemble  # the trees; covers are not needed
    features: int  # columns
    output: Output  # what is made up
    background: Floats  # [rows, features] rounded as the trees compare them
    answers: Floats  # [rows, outputs] what the trees say of them
    method: Method = "tree"  # exact against this background

    def explain_row(self, row: Sequence[Any], deadline: float) -> Contributions:
        """Explain one row; when the time ends, the background rows asked so far stand for all of them."""
        rounded = self.ensemble.rounded(row)
        groups = [leaves for chunk in self.ensemble.chunks for leaves in chunk]
        passing = [leaves.passes(rounded) for leaves in groups]
        parts: list[Floats] = []
        for other in self.background:
            if len(parts) >= _FEWEST and time.perf_counter() > deadline:
                break
            found = np.zeros((self.features, self.ensemble.outputs))
            for leaves, own in zip(groups, passing, strict=True):
                found += _pair_values(leaves, own, leaves.passes(other), self.features)
            parts.append(found)
        stacked, done = np.array(parts), len(parts) == len(self.background)
        errors = np.zeros(stacked.shape[1:])
        if not done:
            errors = stacked.std(axis=0, ddof=1) * np.sqrt((1 - len(parts) / len(self.background)) / len(parts))
        return Contributions(
            base=self.answers[: len(parts)].mean(axis=0),
            values=stacked.mean(axis=0),
            errors=errors,
            answer=self.ensemble.answer(rounded),
            complete=done,
        )


def path_base(ensemble: Ensemble) -> Floats:
    """Return the mean answer of the training rows, from the covers."""
    total = ensemble.constant.copy()
    for leaves in (each for chunk in ensemble.chunks for each in chunk):
        total += leaves.share.prod(axis=1) @ leaves.value
    return total


def _path_values(leaves: Leaves, row: Floats, features: int) -> Floats:
    """Return [features, outputs] what the features add by these leaves."""
    passes = leaves.passes(row).astype(np.float64)
    points, weights = _quadrature(leaves.share.shape[1])
    integral = np.zeros_like(leaves.share)
    for t, weight in zip(points, weights, strict=True):
        factor = np.maximum(leaves.share * (1.0 - t) + passes * t, _LEAST)
        integral += (weight * factor.prod(axis=1))[:, np.newaxis] / factor
    return _added(leaves, integral * (passes - leaves.share), features)


def _pair_values(leaves: Leaves, own: Any, other: Any, features: int) -> Floats:
    """Return [features, outputs] what the features add by these leaves, against one background row."""
    reached = np.flatnonzero((own | other).all(axis=1) & (own != other).any(axis=1))
    own, other = own[reached], other[reached]
    mine, theirs = own & ~other, other & ~own
    few, many = mine.sum(axis=1), theirs.sum(axis=1)
    table = _fractions(own.shape[1])
    gains = table[np.maximum(few - 1, 0), many][:, np.newaxis] * mine
    losses = table[few, np.maximum(many - 1, 0)][:, np.newaxis] * theirs
    part = Leaves(
        feature=leaves.feature[reached],
        low=leaves.low[:0],
        high=leaves.high[:0],
        missing=leaves.missing[:0],
        share=leaves.share[:0],
        value=leaves.value[reached],
    )
    return _added(part, gains - losses, features)


def _added(leaves: Leaves, weights: Floats, features: int) -> Floats:
    columns = leaves.feature.ravel()
    sums = [
        np.bincount(columns, (weights * leaves.value[:, [output]]).ravel(), minlength=features)
        for output in range(leaves.value.shape[1])
    ]
    return np.stack(sums, axis=1)


@lru_cache(maxsize=64)
def _quadrature(width: int) -> tuple[Floats, Floats]:
    """Points and weights on [0, 1] that integrate polynomials of degree width - 1 exactly."""
    points, weights = np.polynomial.legendre.leggauss((width + 1) // 2)
    return (points + 1) / 2, weights / 2


@lru_cache(maxsize=64)
def _fractions(width: int) -> Floats:
    """Return [a, b] = a! b! / (a + b + 1)!, the weight of a set of a among a + b other players."""
    a, b = np.meshgrid(np.arange(width + 1), np.arange(width + 1), indexing="ij")
    return np.asarray(np.exp(gammaln(a + 1) + gammaln(b + 1) - gammaln(a + b + 2)))
