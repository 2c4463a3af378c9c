"""scikit-learn's linear models, trees, forests and boosting as formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidewheel.errors import UnsupportedFormat
from tidewheel.models.formulas import Array, Formula, Step, Tree, as_lists, leaf_rows, refuse


def sklearn_formula(estimator: Any) -> Formula:
    """Return an estimator or a pipeline that ends in one; UnsupportedFormat for what is not written as source."""
    from sklearn.pipeline import Pipeline

    steps: list[Step] = []
    if isinstance(estimator, Pipeline):
        for _, part in estimator.steps[:-1]:
            if part not in (None, "passthrough"):
                steps.append(_step(part))
        estimator = estimator.steps[-1][1]
    for names, make in _MAKERS:
        if type(estimator).__name__ in names and type(estimator).__module__.startswith("sklearn."):
            formula: Formula = make(estimator, steps)
            return formula
    raise refuse(estimator, "its kind is unknown here.")


def _step(part: Any) -> Step:
    kind = type(part).__name__
    if kind == "StandardScaler":
        count = part.n_features_in_
        shift = as_lists(part.mean_) if part.with_mean else [0.0] * count
        return Step(shift=shift, scale=as_lists(part.scale_) if part.with_std else [1.0] * count)
    if kind == "SimpleImputer" and not part.add_indicator and np.isnan(np.float64(part.missing_values)):
        fill = np.asarray(part.statistics_, dtype=np.float64)
        if not np.isnan(fill).any():
            return Step(fill=as_lists(fill))
    if kind == "MinMaxScaler" and not part.clip:
        return Step(shift=as_lists(-part.min_ / part.scale_), scale=as_lists(1 / part.scale_))
    raise refuse(part, "only StandardScaler, MinMaxScaler and SimpleImputer are written before a model.")


def _linear(estimator: Any, steps: list[Step]) -> Formula:
    weights = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    base = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64).ravel(), len(weights))
    link: Any = "identity"
    if hasattr(estimator, "classes_"):
        link = _linear_link(estimator, len(weights))
    elif len(weights) > 1:
        raise refuse(estimator, "it predicts several numbers at once.")
    return Formula(
        columns=weights.shape[1],
        outputs=len(weights),
        link=link,
        base=as_lists(base),
        steps=steps,
        weights=[as_lists(row) for row in weights],
        missing_refused=not any(step.fill for step in steps),
    )


def _linear_link(estimator: Any, outputs: int) -> str:
    kind = type(estimator).__name__
    if kind == "SGDClassifier" and estimator.loss != "log_loss":
        return "sign" if outputs == 1 else "argmax"
    if kind in ("RidgeClassifier", "LinearSVC", "Perceptron"):
        return "sign" if outputs == 1 else "argmax"
    if outputs == 1:
        return "sigmoid"
    return "normalise" if kind == "SGDClassifier" else "softmax"


def _one_tree(estimator: Any, steps: list[Step]) -> Formula:
    return _forest_of(estimator, [estimator], steps)


def _forest(estimator: Any, steps: list[Step]) -> Formula:
    return _forest_of(estimator, estimator.estimators_, steps)


def _forest_of(estimator: Any, trees: list[Any], steps: list[Step]) -> Formula:
    classes = getattr(estimator, "classes_", None)
    outputs = 1 if classes is None else len(classes)
    made = [_tree(each.tree_, proportions=classes is not None) for each in trees]
    return Formula(
        columns=estimator.n_features_in_,
        outputs=outputs,
        link="identity" if classes is None else "shares",
        base=[0.0] * outputs,
        steps=steps,
        trees=[(0, tree) for tree in made],
        scale=1 / len(trees),
        single=True,
        missing_refused=not _takes_missing(trees[0]),
    )


def _tree(tree: Any, *, proportions: bool) -> Tree:
    values: Array = tree.value[:, 0, :]
    if tree.n_outputs != 1:
        raise UnsupportedFormat("The tree predicts several numbers at once.", "Fit one model per number.")
    if proportions:
        values = values / values.sum(axis=1, keepdims=True)
    return Tree(
        feature=tree.feature.tolist(),
        threshold=tree.threshold.tolist(),
        left=tree.children_left.tolist(),
        right=tree.children_right.tolist(),
        missing_left=[bool(flag) for flag in tree.missing_go_to_left.tolist()],
        value=[as_lists(row) for row in values],
    )


def _takes_missing(tree: Any) -> bool:
    """A tree takes NaN when it was fitted on some."""
    found = getattr(tree, "tree_", None)
    return found is not None and bool(found.missing_go_to_left.any())


def _gradient(estimator: Any, steps: list[Step]) -> Formula:
    stages = estimator.estimators_
    outputs = stages.shape[1]
    if estimator.init is not None:
        raise refuse(estimator, "it starts from another estimator (init).")
    zeros = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
    start = estimator._raw_predict_init(zeros)[0]  # noqa: SLF001 - the prior is kept nowhere else
    classes = getattr(estimator, "classes_", None)
    if classes is not None and estimator.loss != "log_loss":
        raise refuse(estimator, f"its loss is {estimator.loss}.")
    trees = []
    for stage in stages:
        for output, each in enumerate(stage):
            made = _tree(each.tree_, proportions=False)
            rate = estimator.learning_rate
            trees.append((output, _scaled(made, rate)))
    return Formula(
        columns=estimator.n_features_in_,
        outputs=outputs,
        link="identity" if classes is None else "sigmoid" if outputs == 1 else "softmax",
        base=as_lists(start),
        steps=steps,
        trees=trees,
        single=True,
        missing_refused=True,
    )


def _scaled(tree: Tree, rate: float) -> Tree:
    return Tree(
        feature=tree.feature,
        threshold=tree.threshold,
        left=tree.left,
        right=tree.right,
        missing_left=tree.missing_left,
        value=[[rate * value for value in row] for row in tree.value],
    )


def _histogram(estimator: Any, steps: list[Step]) -> Formula:
    if getattr(estimator, "_preprocessor", None) is not None or estimator.is_categorical_ is not None:
        raise refuse(estimator, "it splits categories.")
    stages = estimator._predictors  # noqa: SLF001 - its trees are kept nowhere else
    classes = getattr(estimator, "classes_", None)
    outputs = len(stages[0])
    if classes is None and estimator.loss in ("poisson", "gamma"):
        link: Any = "exp"
    else:
        link = "identity" if classes is None else "sigmoid" if outputs == 1 else "softmax"
    trees = [(output, _histogram_tree(each.nodes)) for stage in stages for output, each in enumerate(stage)]
    return Formula(
        columns=estimator.n_features_in_,
        outputs=outputs,
        link=link,
        base=as_lists(estimator._baseline_prediction),  # noqa: SLF001 - kept nowhere else
        steps=steps,
        trees=trees,
    )


def _histogram_tree(nodes: Any) -> Tree:
    leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        feature=nodes["feature_idx"].tolist(),
        threshold=nodes["num_threshold"].tolist(),
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)).tolist(),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)).tolist(),
        missing_left=nodes["missing_go_to_left"].astype(bool).tolist(),
        value=leaf_rows(nodes["value"].tolist()),
    )


_MAKERS: tuple[tuple[tuple[str, ...], Any], ...] = (
    (
        (
            "LinearRegression",
            "Ridge",
            "Lasso",
            "ElasticNet",
            "SGDRegressor",
            "LogisticRegression",
            "RidgeClassifier",
            "SGDClassifier",
            "LinearSVC",
            "Perceptron",
        ),
        _linear,
    ),
    (("DecisionTreeClassifier", "DecisionTreeRegressor"), _one_tree),
    (("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor"), _forest),
    (("GradientBoostingClassifier", "GradientBoostingRegressor"), _gradient),
    (("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), _histogram),
)
