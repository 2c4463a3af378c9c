"""Contributions are Shapley values, by an oracle that sums over all subsets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import lightgbm
import msgspec
import numpy as np
import polars as pl
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tidewheel.errors import InvalidInput
from tidewheel.explaining.background import background_rows
from tidewheel.explaining.ensemble import Tree, ensemble_of
from tidewheel.explaining.explain import explain, explainer_of
from tidewheel.explaining.records import Floats
from tidewheel.explaining.sklearn_trees import sklearn_ensemble
from tidewheel.explaining.tree_shap import BackgroundShap, PathShap, path_base
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import save_bundle
from tidewheel.models.model import Model

Worth = Callable[[tuple[int, ...]], Floats]  # a set of known features to the expected answer


def shapley(count: int, worth: Worth) -> Floats:
    """Sum over all subsets, as Shapley (1953) defines it."""
    found = []
    for feature in range(count):
        others = [each for each in range(count) if each != feature]
        total = np.zeros_like(worth(()))
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for known in combinations(others, size):
                total = total + weight * (worth(tuple(sorted((*known, feature)))) - worth(known))
        found.append(total)
    return np.stack(found)


def along_paths(tree: Tree, row: Sequence[float], known: tuple[int, ...], node: int = 0) -> Floats:
    """Follow a known feature, average over both ways of an unknown one (Lundberg 2020, algorithm 1)."""
    left, right = tree.left[node], tree.right[node]
    if left < 0:
        return np.asarray(tree.value[node])
    if tree.feature[node] in known:
        value = row[tree.feature[node]]
        goes_left = tree.missing_left[node] if math.isnan(value) else value <= tree.threshold[node]
        return along_paths(tree, row, known, left if goes_left else right)
    both = ((child, tree.cover[child] / tree.cover[node]) for child in (left, right))
    total: Floats = sum((share * along_paths(tree, row, known, child) for child, share in both), np.zeros(1))
    return total


def random_tree(random: np.random.Generator, features: int, depth: int, outputs: int) -> Tree:
    nodes: dict[str, list[Any]] = {name: [] for name in ("left", "right", "feature", "threshold", "missing", "cover")}
    values: list[Floats] = []

    def grow(level: int, cover: float) -> int:
        place = len(values)
        for column in nodes.values():
            column.append(-1)
        values.append(random.normal(size=outputs))
        nodes["cover"][place] = cover
        if level == depth or (level and random.random() < 0.2):
            return place
        nodes["feature"][place] = int(random.integers(features))
        nodes["threshold"][place] = float(random.integers(-2, 3)) / 2
        nodes["missing"][place] = bool(random.integers(2))
        share = random.uniform(0.1, 0.9)
        nodes["left"][place] = grow(level + 1, cover * share)
        nodes["right"][place] = grow(level + 1, cover * (1 - share))
        return place

    grow(0, 100.0)
    return Tree(
        left=nodes["left"],
        right=nodes["right"],
        feature=nodes["feature"],
        threshold=nodes["threshold"],
        missing_left=nodes["missing"],
        cover=nodes["cover"],
        value=np.array(values),
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), features=st.integers(1, 5), depth=st.integers(0, 6), outputs=st.integers(1, 3))
def test_tree_values_are_those_of_all_subsets(seed: int, features: int, depth: int, outputs: int) -> None:
    random = np.random.default_rng(seed)
    trees = [random_tree(random, features, depth, outputs) for _ in range(3)]
    ensemble = ensemble_of(trees, np.zeros(outputs), single=False)
    assert ensemble is not None
    row = np.where(random.random(features) < 0.2, np.nan, random.normal(size=features)).tolist()
    found = PathShap(ensemble=ensemble, features=features, output="prediction", base=path_base(ensemble)).explain_row(
        row, math.inf
    )
    wanted = shapley(features, lambda known: np.sum([along_paths(tree, row, known) for tree in trees], axis=0))
    np.testing.assert_allclose(found.values, wanted, atol=1e-9)
    assert found.gap < 1e-9
    others = random.normal(size=(4, features))
    answers = np.array([ensemble.answer(other) for other in others])
    against = BackgroundShap(
        ensemble=ensemble, features=features, output="prediction", background=others, answers=answers
    ).explain_row(row, math.inf)

    def replaced(known: tuple[int, ...]) -> Floats:
        mixed = others.copy()
        mixed[:, list(known)] = np.array(row)[list(known)]
        mean: Floats = np.stack([ensemble.answer(each) for each in mixed]).mean(axis=0)
        return mean

    np.testing.assert_allclose(against.values, shapley(features, replaced), atol=1e-9)
    assert against.gap < 1e-9


def _data(classes: int = 0, rows: int = 300) -> tuple[Floats, Any]:
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 5)).astype(np.float32).astype(np.float64)
    y = x[:, 0] * 2 + x[:, 1] * x[:, 2] + random.normal(size=rows) * 0.1
    return x, np.digitize(y, np.quantile(y, np.linspace(0, 1, classes + 1)[1:-1])) if classes else y


CASES = [
    (DecisionTreeRegressor(max_depth=4), 0, "prediction"),
    (RandomForestRegressor(12, max_depth=5, random_state=0), 0, "prediction"),
    (GradientBoostingRegressor(n_estimators=12, random_state=0), 0, "prediction"),
    (HistGradientBoostingRegressor(max_iter=12, random_state=0), 0, "prediction"),
    (DecisionTreeClassifier(max_depth=4), 2, "probability"),
    (RandomForestClassifier(12, max_depth=5, random_state=0), 3, "probability"),
    (ExtraTreesClassifier(12, max_depth=5, random_state=0), 2, "probability"),
    (GradientBoostingClassifier(n_estimators=8, random_state=0), 2, "margin"),
    (GradientBoostingClassifier(n_estimators=8, random_state=0), 3, "margin"),
    (HistGradientBoostingClassifier(max_iter=8, random_state=0), 2, "margin"),
    (HistGradientBoostingClassifier(max_iter=8, random_state=0), 3, "margin"),
]


@pytest.mark.parametrize(("estimator", "classes", "output"), CASES)
def test_trees_of_scikit_learn_are_read_as_they_answer(estimator: Any, classes: int, output: str) -> None:
    x, y = _data(classes)
    model = Model(estimator.fit(x, y), example=x)
    found = explain(model, x[:3], background=x[:50])
    assert (found.method, found.output, found.complete) == ("tree", output, True)
    assert all(row.gap < 1e-9 for row in found.rows)
    ensemble = sklearn_ensemble(estimator)
    assert ensemble is not None
    means = np.mean([ensemble.answer(ensemble.rounded(row)) for row in x], axis=0)
    if "Forest" not in type(estimator).__name__:  # whose trees are grown on resampled rows
        np.testing.assert_allclose(found.rows[0].base, means, atol=1e-6 if classes == 0 else 0.2)
    assert np.abs(found.values[:, 0]).mean() > np.abs(found.values[:, 4]).mean()


@pytest.mark.parametrize(
    ("estimator", "classes"),
    [
        (lightgbm.LGBMRegressor(n_estimators=10, verbose=-1), 0),
        (lightgbm.LGBMClassifier(n_estimators=5, verbose=-1), 3),
        (xgboost.XGBRegressor(n_estimators=10), 0),
        (xgboost.XGBClassifier(n_estimators=5), 2),
        (xgboost.XGBClassifier(n_estimators=5), 3),
    ],
)
def test_boosters_explain_themselves(estimator: Any, classes: int) -> None:
    x, y = _data(classes)
    found = explain(Model(estimator.fit(x, y), example=x), x[:2])
    assert found.method == "booster"
    assert found.values.shape == (2, 5, 3 if classes == 3 else 1)
    wanted = estimator.predict(x[:2]) if not classes else None
    if wanted is not None:
        np.testing.assert_allclose([row.answer[0] for row in found.rows], wanted, rtol=1e-4)
    assert np.abs(found.values[:, 0]).mean() > np.abs(found.values[:, 4]).mean()


@pytest.mark.parametrize(
    ("estimator", "classes", "output"),
    [
        (LinearRegression(), 0, "prediction"),
        (make_pipeline(StandardScaler(), Ridge()), 0, "prediction"),
        (LogisticRegression(), 2, "margin"),
    ],
)
def test_linear_models_are_explained_by_their_weights(estimator: Any, classes: int, output: str) -> None:
    x, y = _data(classes)
    found = explain(Model(estimator.fit(x, y), example=x), x[:3], background=x[:200])
    assert (found.method, found.output) == ("linear", output)
    final = estimator[-1] if hasattr(estimator, "steps") else estimator
    weights = np.ravel(final.coef_) / (estimator[0].scale_ if hasattr(estimator, "steps") else 1.0)
    wanted = (x[:3] - x[:200].mean(axis=0)) * weights
    np.testing.assert_allclose(found.values[:, :, 0], wanted, atol=1e-6)
    assert all(row.gap < 1e-6 for row in found.rows)


def test_sampling_comes_near_the_values_of_all_subsets() -> None:
    x, y = _data()
    estimator = KNeighborsRegressor().fit(x, y)
    background = x[:20]
    found = explain(Model(estimator, example=x), x[40:41], background=background)

    def replaced(known: tuple[int, ...]) -> Floats:
        mixed = background.copy()
        mixed[:, list(known)] = x[40, list(known)]
        answer: Floats = estimator.predict(mixed).mean(keepdims=True)
        return answer

    (row,) = found.rows
    assert (found.method, row.complete) == ("sampling", True)
    assert row.gap < 1e-9
    assert np.all(row.errors > 0)
    assert np.all(np.abs(row.values - shapley(5, replaced)) < 5 * row.errors + 1e-9)


def test_sampling_explains_text_classes_and_missing_values() -> None:
    frame = pl.DataFrame({"a": [0.0, 1.0, None, 3.0] * 10, "s": ["x", "y", "x", "z"] * 10})

    class Rule:
        classes_ = np.array(["no", "yes"])

        def predict(self, rows: pl.DataFrame) -> Any:
            return np.where(rows["s"].to_numpy() == "x", "yes", "no")

    found = explain(Model(Rule(), example=frame), frame.head(3), background=frame)
    assert (found.output, found.outputs) == ("probability", ("yes",))
    assert np.abs(found.values[:, 0]).max() == 0.0
    assert found.values[0, 1, 0] > 0.4 > -0.4 > found.values[1, 1, 0]
    assert [row.answer[0] for row in found.rows] == [1.0, 0.0, 1.0]


def test_model_without_background_says_what_it_needs() -> None:
    x, y = _data(2)
    model = Model(MLPClassifier((3,), max_iter=20).fit(x, y), example=x)
    with pytest.raises(InvalidInput, match="background="):
        explain(model, x[:1])
    with pytest.raises(InvalidInput, match="1,001 rows"):
        explain(model, np.zeros((1_001, 5)), background=x)


@pytest.mark.parametrize(
    ("estimator", "classes", "output"),
    [
        (HistGradientBoostingRegressor(max_iter=20, random_state=0), 0, "prediction"),
        (RandomForestClassifier(8, max_depth=4, random_state=0), 3, "probability"),
        (RandomForestRegressor(8, max_depth=4, random_state=0), 0, "prediction"),
        (HistGradientBoostingClassifier(max_iter=8, random_state=0), 2, "margin"),
        (GradientBoostingClassifier(n_estimators=8, random_state=0), 2, "margin"),
    ],
)
def test_bundle_that_holds_onnx_alone_is_explained_exactly_against_its_baseline(
    store: Store, estimator: Any, classes: int, output: str
) -> None:
    x, y = _data(classes)
    model = Model(estimator.fit(x, y), example=x)
    saved = save_bundle(store, model, rows=x, environment={"python": "3.11", "packages": {}})
    forms = [entry for entry in saved.manifest.formats if entry.name == "onnx"]
    bundle = replace(saved, manifest=msgspec.structs.replace(saved.manifest, formats=forms))
    assert isinstance(explainer_of(bundle), BackgroundShap)
    found = explain(bundle, x[:2])
    assert (found.method, found.output, found.complete) == ("tree", output, True)
    assert all(row.gap < 1e-5 for row in found.rows)
    native = sklearn_ensemble(estimator)
    assert native is not None
    centred = [native.answer(native.rounded(row)) for row in x[:2]]
    for row, wanted in zip(found.rows, centred, strict=True):
        np.testing.assert_allclose(row.answer, wanted, atol=1e-4)


def test_background_of_a_bundle_looks_like_its_training_rows(store: Store) -> None:
    random = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "n": random.normal(3.0, 2.0, 500),
            "i": random.integers(0, 4, 500),
            "m": [None if one < 0.3 else one for one in random.random(500)],
            "s": random.choice(["a", "b"], 500, p=[0.8, 0.2]),
            "b": random.random(500) < 0.25,
        }
    )

    class Sum:
        def predict(self, rows: pl.DataFrame) -> Any:
            return rows["n"].to_numpy()

    model = Model(Sum(), example=frame, task="regression", trust=True)
    bundle = save_bundle(store, model, rows=frame, environment={"python": "3.11", "packages": {}})
    rows = pl.DataFrame(background_rows(bundle.manifest), schema=frame.schema, orient="row")
    assert rows.height == 100
    assert rows["n"].mean() == pytest.approx(frame["n"].mean(), abs=0.15)
    assert rows["i"].value_counts().sort("i")["count"].to_list() == pytest.approx(
        (frame["i"].value_counts().sort("i")["count"] / 5).to_list(), abs=2
    )
    assert rows["m"].null_count() == pytest.approx(frame["m"].null_count() / 5, abs=2)
    assert (rows["s"] == "a").mean() == pytest.approx(0.8, abs=0.05)
    assert rows["b"].mean() == pytest.approx(frame["b"].mean(), abs=0.03)


def test_time_that_is_over_gives_less_and_says_so() -> None:
    x, y = _data()
    forest = RandomForestRegressor(60, min_samples_leaf=1, random_state=0).fit(np.tile(x, (8, 1)), np.tile(y, 8))
    explainer = explainer_of(Model(forest, example=x))
    assert isinstance(explainer, PathShap)
    assert len(explainer.ensemble.chunks) > 2
    exact, part = explainer.explain_row(x[0], math.inf), explainer.explain_row(x[0], time.perf_counter() - 1)
    assert exact.complete
    assert not part.complete
    assert np.all(exact.errors == 0)
    assert np.linalg.norm(part.values - exact.values) < 6 * np.linalg.norm(part.errors)
    found = explain(Model(KNeighborsRegressor().fit(x, y), example=x), x[:50], background=x[:20], budget_ms=0.0)
    assert (len(found.rows), found.asked, found.complete) == (1, 50, False)
    assert np.all(found.rows[0].errors > 0)
