"""The trees of scikit-learn's estimators, with how many training rows came through each split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tidewheel.explaining.ensemble import Ensemble, Tree, ensemble_of


def sklearn_ensemble(estimator: Any) -> Ensemble | None:
    """Return the trees of a decision tree, forest, gradient boosting or histogram gradient boosting; None otherwise.

    Trees and forests answer with numbers or probabilities, boosting with numbers or margins.
    """
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        ExtraTreesRegressor,
        GradientBoostingClassifier,
        GradientBoostingRegressor,
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if isinstance(estimator, DecisionTreeClassifier | DecisionTreeRegressor):
        return _averaged([estimator])
    forests = (ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor)
    if isinstance(estimator, forests):
        return _averaged(list(estimator.estimators_))
    if isinstance(estimator, GradientBoostingClassifier | GradientBoostingRegressor):
        return _boosted(estimator)
    if isinstance(estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        return _histogram(estimator)
    return None


def _averaged(estimators: list[Any]) -> Ensemble | None:
    trees: list[Tree] = []
    for estimator in estimators:
        value = np.asarray(estimator.tree_.value)
        if value.shape[1] != 1:
            return None  # several outputs at once
        trees.append(_tree(estimator.tree_, _second(value[:, 0, :]) / len(estimators)))
    return ensemble_of(trees, np.zeros(trees[0].value.shape[1]), single=True)


def _second(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the probability of the second of two classes alone; the first's says nothing more."""
    return value[:, 1:] if value.shape[1] == 2 else value


def _boosted(estimator: Any) -> Ensemble | None:
    stages = np.asarray(estimator.estimators_)
    outputs = stages.shape[1]
    rows = np.random.default_rng(0).normal(size=(2, estimator.n_features_in_)).astype(np.float32)
    first = np.asarray(estimator._raw_predict_init(rows)).reshape(2, -1)  # noqa: SLF001 - no public way to ask
    if not np.array_equal(first[0], first[1]):
        return None  # boosting on top of another model
    trees = []
    for stage in stages:
        for output, tree in enumerate(stage):
            value = np.zeros((tree.tree_.node_count, outputs))
            value[:, output] = tree.tree_.value[:, 0, 0] * estimator.learning_rate
            trees.append(_tree(tree.tree_, value))
    return ensemble_of(trees, first[0].astype(np.float64), single=True)


def _histogram(estimator: Any) -> Ensemble | None:
    if estimator.is_categorical_ is not None:
        return None  # columns are reordered and coded before the trees see them
    baseline = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1)  # noqa: SLF001 - no public way
    return ensemble_of(list(_histogram_trees(estimator, len(baseline))), baseline, single=False)


def _histogram_trees(estimator: Any, outputs: int) -> Iterator[Tree]:
    for stage in estimator._predictors:  # noqa: SLF001 - no public way to ask
        for output, predictor in enumerate(stage):
            nodes = predictor.nodes
            value = np.zeros((len(nodes), outputs))
            value[:, output] = nodes["value"]
            inner = nodes["is_leaf"] == 0
            yield Tree(
                left=np.where(inner, nodes["left"].astype(np.int64), -1).tolist(),
                right=np.where(inner, nodes["right"].astype(np.int64), -1).tolist(),
                feature=nodes["feature_idx"].tolist(),
                threshold=nodes["num_threshold"].tolist(),
                missing_left=nodes["missing_go_to_left"].tolist(),
                cover=nodes["count"].tolist(),
                value=value,
            )


def _tree(tree: Any, value: np.ndarray[Any, Any]) -> Tree:
    return Tree(
        left=tree.children_left.tolist(),
        right=tree.children_right.tolist(),
        feature=tree.feature.tolist(),
        threshold=tree.threshold.tolist(),
        missing_left=tree.missing_go_to_left.tolist(),
        cover=tree.weighted_n_node_samples.tolist(),
        value=value,
    )
