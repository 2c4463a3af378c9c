"""Small models as plain sums: columns, trees, weights and a link, which Python or C source can be written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tidewheel.errors import UnsupportedFormat
from tidewheel.models.boosters import library_of
from tidewheel.models.estimator import class_path
from tidewheel.models.signature import Signature

Link = Literal["identity", "sigmoid", "softmax", "exp", "normalise", "shares", "sign", "argmax"]
Array = np.ndarray[Any, np.dtype[Any]]

MAX_NODES = 20_000  # above this a compiler takes minutes and a source file has no advantage over ONNX


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One decision tree in arrays; node 0 is the root, a leaf has no left child (-1)."""

    feature: list[int]  # column that a node looks at
    threshold: list[float]  # value it compares with
    left: list[int]  # child where the comparison holds
    right: list[int]  # the other child
    missing_left: list[bool]  # where NaN goes
    value: list[list[float]]  # of a leaf, per output that the tree adds to
    sets: dict[int, list[int]] = field(default_factory=dict)  # codes that go left, at nodes that split categories


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happens to each column before the model: fill what is missing, then (x - shift) / scale."""

    fill: list[float] | None = None  # value for NaN per column
    shift: list[float] | None = None  # subtracted per column
    scale: list[float] | None = None  # divided by per column


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A model as outputs[k] = link(base[k] + scale * sum of trees + weights[k] . x)."""

    columns: int  # number of columns
    outputs: int  # number of raw outputs
    link: Link  # from raw outputs to answers
    base: list[float]  # start of each sum
    steps: list[Step] = field(default_factory=list)  # preprocessing, in order
    weights: list[list[float]] = field(default_factory=list)  # [output][column] of a linear model
    trees: list[tuple[int, Tree]] = field(default_factory=list)  # (first output it adds to, tree)
    scale: float = 1.0  # factor of the trees' sum: 1 / trees for forests
    single: bool = False  # whether values are rounded to float32 first, as trees of scikit-learn and XGBoost do
    strict: bool = False  # whether a node compares with < instead of <=
    zero_is_missing: bool = False  # LightGBM's zero_as_missing
    missing_refused: bool = False  # whether the model itself refuses NaN
    slope: float = 1.0  # of the sigmoid
    levels: dict[int, list[str]] = field(default_factory=dict)  # text columns: level to code


def formula_of(estimator: Any, signature: Signature, categories: dict[str, list[str]] | None = None) -> Formula:
    """Return a fitted estimator as a formula.

    scikit-learn's linear models, trees, forests and boosting (with scalers and imputers before them), LightGBM and
    XGBoost.

    Raises UnsupportedFormat, with the part, for everything else and for more than 20,000 nodes.
    """
    from tidewheel.models.formula_boosters import booster_formula
    from tidewheel.models.formula_sklearn import sklearn_formula

    if library_of(estimator) is not None:
        formula = booster_formula(estimator, signature, categories or {})
    else:
        if not signature.numeric:
            raise UnsupportedFormat(
                "A formula of this estimator takes numbers alone, and some columns hold text or times.",
                "Encode them before the model, or use a booster with categories.",
            )
        formula = sklearn_formula(estimator)
    nodes = sum(len(tree.feature) for _, tree in formula.trees)
    if nodes > MAX_NODES:
        raise UnsupportedFormat(
            f"{class_path(estimator)} has {nodes:,} nodes, source is written for up to {MAX_NODES:,}.",
            "Bound the trees with max_depth or their number, or ship ONNX.",
        )
    return formula


def refuse(estimator: object, why: str) -> UnsupportedFormat:
    """Return the error for an estimator that no formula holds."""
    return UnsupportedFormat(
        f"{class_path(estimator)} is not written as source: {why}",
        "Ship it as ONNX, or use a linear model, trees, forests or boosting.",
    )


def as_lists(values: Array) -> list[float]:
    """Return an array as plain floats.

    >>> as_lists(np.array([[1, 2]]))
    [1.0, 2.0]
    """
    found: list[float] = np.asarray(values, dtype=np.float64).ravel().tolist()
    return found


def leaf_rows(values: Sequence[float]) -> list[list[float]]:
    """Return one value per node as rows of one output."""
    return [[float(value)] for value in values]
