"""What the demo learns with: the mean of three different learners, without those that are clearly worse.

Boosted trees, random trees and a linear model fail in different ways, so their mean changes little from one
retraining to the next; choosing the single best of them on a few hundred rows changes a lot (measured in
docs/decisions/0011_demo_learner.md). Newer rows weigh more: a row's weight halves with every `HALF_LIFE` newer ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tidewheel.errors import InvalidInput
from tidewheel.models.model import Model
from tidewheel.models.signature import Task

HALF_LIFE = 1_000  # rows
ROUNDS, LEAST_ROUNDS = 50, 10  # of boosting
TREES = 25  # random trees; more cost more to convert and store than they bring
CHECK_SHARE = 0.25  # of the rows, the newest, on which the learners are compared
CHECK_ROWS = (20, 500)  # fewest and most of them
WORSE_POINTS = 0.03  # accuracy below the best learner that is clearly worse
WORSE_RATIO = 1.15  # root mean squared error over that of the best learner that is clearly worse
MOST_LEVELS = 20  # columns of text with more levels have their rare ones joined

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The features of a table, by how they are prepared."""

    numbers: tuple[str, ...]  # numbers and booleans
    texts: tuple[str, ...]  # categories


def learn(rows: pl.DataFrame, label: str, task: Task) -> Model:
    """Fit the mean of the learners that are not clearly worse than the best of them on the newest rows.

    Raises InvalidInput when all labels are alike, or a column is neither numbers nor text.
    """
    columns = sorted_columns(rows.drop(label))
    features = rows.select(*columns.numbers, *columns.texts)
    truth = rows[label].to_numpy()
    if task != "regression" and len(np.unique(truth)) < 2:
        raise InvalidInput(f"All {rows.height} rows have the same {label}.", "Wait for rows of another class.")
    preparation = _preparation(columns)
    table = preparation.fit_transform(features)
    chosen = _compare(table, truth, task)
    members = _fitted(chosen, table, truth, task)
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(preparation, _mean_of(members, task))
    return Model(pipeline, example=_example(features, columns), target=label, task=task)


def _example(features: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """Return some rows and one without numbers: those may be missing, the preparation fills them in."""
    rows = features.head(100)
    absent = rows.head(1).with_columns(pl.lit(None).cast(rows[name].dtype).alias(name) for name in columns.numbers)
    return pl.concat([rows, absent])


def sorted_columns(features: pl.DataFrame) -> Columns:
    """Sort features into numbers and categories.

    A column that is constant today stays: it may vary tomorrow, and a model that leaves columns out
    would leave them out of the prediction log, too.

    >>> sorted_columns(pl.DataFrame({"a": [1.0, 2.0], "b": [True, False], "c": ["x", "y"]}))
    Columns(numbers=('a', 'b'), texts=('c',))
    """
    numbers = tuple(each.name for each in features if each.dtype.is_numeric() or each.dtype == pl.Boolean)
    texts = tuple(each.name for each in features if each.dtype in (pl.String, pl.Categorical, pl.Enum))
    if left := [name for name in features.columns if name not in (*numbers, *texts)]:
        raise InvalidInput(
            f"The columns {', '.join(left)} are neither numbers nor text.", "Leave them out with --drop."
        )
    return Columns(numbers=numbers, texts=texts)


def _preparation(columns: Columns) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    numbers = SimpleImputer(strategy="median", keep_empty_features=True)
    if not columns.texts:
        return numbers  # one matrix goes in: the fastest way to serve
    levels = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_LEVELS, sparse_output=False)
    return ColumnTransformer([("numbers", numbers, list(columns.numbers)), ("texts", levels, list(columns.texts))])


def _learners(task: Task, classes: int) -> dict[str, Any]:
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        ExtraTreesRegressor,
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
    )
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Boosting grows one tree for each class and round, so many classes get fewer rounds.
    rounds = ROUNDS if classes <= 2 else max(ROUNDS * 4 // classes, LEAST_ROUNDS)
    boosting: dict[str, Any] = {"max_iter": rounds, "max_leaf_nodes": 15, "early_stopping": False, "random_state": 0}
    if task == "regression":
        return {
            "boosting": HistGradientBoostingRegressor(**boosting),
            "trees": ExtraTreesRegressor(TREES, min_samples_leaf=5, random_state=0),
            "linear": make_pipeline(StandardScaler(), Ridge()),
        }
    # Many classes leave few rows for each: there, finer leaves are better and as small.
    return {
        "boosting": HistGradientBoostingClassifier(**boosting),
        "trees": ExtraTreesClassifier(TREES, min_samples_leaf=5 if classes <= 5 else 2, random_state=0),
        "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
    }


def _compare(table: Floats, truth: NDArray[Any], task: Task) -> tuple[str, ...]:
    """Return the learners that are not clearly worse than the best one on the newest rows."""
    classes = len(np.unique(truth)) if task != "regression" else 0
    names = tuple(_learners(task, classes))
    fewest, most = CHECK_ROWS
    cut = len(truth) - min(max(round(len(truth) * CHECK_SHARE), fewest), most)
    if cut < fewest or (classes and len(np.unique(truth[:cut])) < classes):
        return names
    members = _fitted(names, table[:cut], truth[:cut], task)
    losses = {name: _loss(member.predict(table[cut:]), truth[cut:], task) for name, member in members.items()}
    best = min(losses.values())
    limit = best * WORSE_RATIO if task == "regression" else best + WORSE_POINTS
    return tuple(name for name, loss in losses.items() if loss <= limit)


def _fitted(names: Sequence[str], table: Floats, truth: NDArray[Any], task: Task) -> dict[str, Any]:
    classes = len(np.unique(truth)) if task != "regression" else 0
    learners = _learners(task, classes)
    weights = 0.5 ** (np.arange(len(truth))[::-1] / HALF_LIFE)
    return {name: _fit(learners[name], table, truth, weights) for name in names}


def _fit(learner: Any, table: Floats, truth: NDArray[Any], weights: Floats) -> Any:
    steps = getattr(learner, "steps", None)
    part = f"{steps[-1][0]}__" if steps else ""
    return learner.fit(table, truth, **{f"{part}sample_weight": weights})


def _loss(answers: NDArray[Any], truth: NDArray[Any], task: Task) -> float:
    if task == "regression":
        return float(np.sqrt(np.mean((answers - truth) ** 2)))
    return float(np.mean(answers != truth))


def _mean_of(members: dict[str, Any], task: Task) -> Any:
    """Return the mean of fitted members as scikit-learn's voting estimator, which ONNX knows.

    Its own `fit` would fit every member once more, so what that would set is set here.
    """
    from sklearn.ensemble import VotingClassifier, VotingRegressor
    from sklearn.preprocessing import LabelEncoder

    if len(members) == 1:
        return next(iter(members.values()))
    named = list(members.items())
    if task == "regression":
        mean = VotingRegressor(named)
    else:
        mean = VotingClassifier(named, voting="soft", flatten_transform=False)
        classes = named[0][1].classes_
        mean.le_, mean.classes_ = LabelEncoder().fit(classes), classes
    mean.estimators_ = [member for _, member in named]
    return mean
