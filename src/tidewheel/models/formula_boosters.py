"""LightGBM and XGBoost as formulas, read from what they dump."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidewheel.models.boosters import booster_of, described, library_of
from tidewheel.models.formulas import Formula, Tree, refuse
from tidewheel.models.signature import Signature

_LIGHTGBM_LINKS = {"binary": "sigmoid", "multiclass": "softmax", "cross_entropy": "sigmoid", "xentropy": "sigmoid"}
_EXPONENTIAL = ("poisson", "gamma", "tweedie")
_XGBOOST_LINKS = {
    "binary:logistic": "sigmoid",
    "reg:logistic": "sigmoid",
    "binary:logitraw": "sigmoid",
    "multi:softprob": "softmax",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "reg:squarederror": "identity",
    "reg:absoluteerror": "identity",
    "reg:quantileerror": "identity",
    "reg:pseudohubererror": "identity",
    "rank:ndcg": "identity",
    "rank:pairwise": "identity",
    "rank:map": "identity",
}


def booster_formula(estimator: Any, signature: Signature, categories: dict[str, list[str]]) -> Formula:
    """Return a LightGBM or XGBoost model; UnsupportedFormat for linear boosters and leaves, and unknown objectives."""
    levels = {place: categories[name] for place, name in enumerate(signature.names) if name in categories}
    if library_of(estimator) == "lightgbm":
        return _lightgbm(estimator, levels)
    return _xgboost(estimator, levels)


def _lightgbm(estimator: Any, levels: dict[int, list[str]]) -> Formula:
    dump = booster_of(estimator).dump_model()
    words = str(dump.get("objective", "regression")).split(" ")
    kind, outputs = words[0], int(dump["num_tree_per_iteration"])
    link: Any = "exp" if kind in _EXPONENTIAL else _LIGHTGBM_LINKS.get(kind, "identity")
    if kind == "multiclassova" or "sqrt" in words:
        raise refuse(estimator, f"its objective is {' '.join(words)}.")
    read = [_lightgbm_tree(estimator, each["tree_structure"]) for each in dump["tree_info"]]
    zero = any(found for _, found in read)
    rounds = max(len(read) // outputs, 1)
    return Formula(
        columns=int(dump["max_feature_idx"]) + 1,
        outputs=outputs,
        link=link,
        base=[0.0] * outputs,
        trees=[(place % outputs, tree) for place, (tree, _) in enumerate(read)],
        scale=1 / rounds if dump.get("average_output") else 1.0,
        zero_is_missing=zero,
        slope=next((float(word.partition(":")[2]) for word in words if word.startswith("sigmoid:")), 1.0),
        levels=levels,
    )


class _Rows:
    """Collects the nodes of a tree, parents first."""

    def __init__(self) -> None:
        self.tree = Tree(feature=[], threshold=[], left=[], right=[], missing_left=[], value=[])

    def add(self, feature: int, threshold: float, value: float, *, missing_left: bool) -> int:
        """Append a node without children and return its number."""
        tree = self.tree
        tree.feature.append(feature)
        tree.threshold.append(threshold)
        tree.left.append(-1)
        tree.right.append(-1)
        tree.missing_left.append(missing_left)
        tree.value.append([value])
        return len(tree.feature) - 1


def _lightgbm_tree(estimator: Any, root: dict[str, Any]) -> tuple[Tree, bool]:
    """Return a tree, and whether zero is missing in it."""
    rows, zero = _Rows(), False
    waiting: list[tuple[dict[str, Any], int, bool]] = [(root, -1, True)]
    while waiting:
        node, parent, is_left = waiting.pop()
        if node.get("leaf_coeff"):
            raise refuse(estimator, "its leaves are linear models.")
        zero = zero or node.get("missing_type") == "Zero"
        number = _lightgbm_node(rows, node)
        if parent >= 0:
            (rows.tree.left if is_left else rows.tree.right)[parent] = number
        if "split_feature" in node:
            waiting += [(node["right_child"], number, False), (node["left_child"], number, True)]
    return rows.tree, zero


def _lightgbm_node(rows: _Rows, node: dict[str, Any]) -> int:
    if "split_feature" not in node:
        return rows.add(0, 0.0, float(node["leaf_value"]), missing_left=False)
    feature = int(node["split_feature"])
    if node["decision_type"] == "==":  # codes that go left; all others, and what is missing, go right
        number = rows.add(feature, 0.0, 0.0, missing_left=False)
        rows.tree.sets[number] = [int(code) for code in str(node["threshold"]).split("||")]
        return number
    threshold = float(node["threshold"])
    # Without missing values in training, LightGBM reads NaN as zero.
    missing_left = threshold >= 0 if node["missing_type"] == "None" else bool(node["default_left"])
    return rows.add(feature, threshold, 0.0, missing_left=missing_left)


def _xgboost(estimator: Any, levels: dict[int, list[str]]) -> Formula:
    learner = described(estimator)["learner"]
    shape, objective = learner["learner_model_param"], learner["objective"]["name"]
    link: Any = _XGBOOST_LINKS.get(objective)
    if link is None:
        raise refuse(estimator, f"its objective is {objective}.")
    booster, factors = learner["gradient_booster"], None
    if booster["name"] == "dart":
        booster, factors = booster["gbtree"], booster["weight_drop"]
    if "model" not in booster or "trees" not in booster["model"]:
        raise refuse(estimator, "it is a linear booster.")
    outputs = max(int(shape.get("num_class", 0)), 1)
    model = booster["model"]
    trees = [
        (int(group), _xgboost_tree(tree, 1.0 if factors is None else float(factors[place])))
        for place, (group, tree) in enumerate(zip(model["tree_info"], model["trees"], strict=True))
    ]
    return Formula(
        columns=int(shape["num_feature"]),
        outputs=outputs,
        link=link,
        base=_margins(str(shape["base_score"]), link, outputs),
        trees=trees,
        single=True,
        strict=True,
        levels=levels,
    )


def _margins(text: str, link: str, outputs: int) -> list[float]:
    """Read base scores, which are kept as answers, back as what the sums start with."""
    kept = [float(word) for word in text.strip("[]").split(",")]
    kept = kept * outputs if len(kept) == 1 else kept
    if link == "sigmoid":
        return [float(np.log(score / (1 - score))) for score in kept]
    return [float(np.log(score)) for score in kept] if link == "exp" else kept


def _xgboost_tree(tree: dict[str, Any], factor: float) -> Tree:
    left, right = tree["left_children"], tree["right_children"]
    # The text is the shortest that reads back as the same float32, not as the same double.
    conditions: list[float] = np.asarray(tree["split_conditions"], dtype=np.float32).astype(np.float64).tolist()
    sets = {}
    for node, start, size in zip(
        tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
    ):
        kept = {int(code) for code in tree["categories"][start : start + size]}  # these go right
        sets[int(node)] = sorted(kept)
    return Tree(
        feature=[int(place) for place in tree["split_indices"]],
        threshold=conditions,
        # Categories that are listed go right: the children are swapped, so that a set always goes left.
        left=[int(right[node]) if node in sets else int(child) for node, child in enumerate(left)],
        right=[int(left[node]) if node in sets else int(child) for node, child in enumerate(right)],
        missing_left=[bool(flag) != (node in sets) for node, flag in enumerate(tree["default_left"])],
        value=[[factor * value] for value in conditions],
        sets=sets,
    )
