"""CPU of explaining one row of a 100-tree model: ours, and shap's TreeExplainer where it is installed.

Both explain the same fitted estimator, path-dependent, in one process on one thread; the largest difference between
their values is printed. shap brings numba and LLVM, so it is no dependency of the tests: `pip install shap` beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import show
from tidewheel.explaining.explain import explain, explainer_of
from tidewheel.models.model import Model

ROWS, COLUMNS, TREES, ASKED = 5_000, 20, 100, 60


def main() -> None:
    """Measure and print."""
    from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestRegressor

    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, COLUMNS)).astype(np.float32).astype(np.float64)
    y = x[:, 0] * 3 + x[:, 1] * x[:, 2] + np.sin(x[:, 3]) + random.normal(size=ROWS) * 0.1
    estimators: dict[str, Any] = {
        "gradient boosting, depth 3": GradientBoostingRegressor(n_estimators=TREES, random_state=0),
        "histogram boosting, 31 leaves": HistGradientBoostingRegressor(max_iter=TREES, random_state=0),
        "forest, depth 8": RandomForestRegressor(TREES, max_depth=8, random_state=0),
    }
    lines: list[tuple[str, str, str]] = []
    for name, estimator in estimators.items():
        model = Model(estimator.fit(x, y), example=x)
        explainer = explainer_of(model)
        ours = _cpu_us(lambda row, explainer=explainer: explainer.explain_row(row, math.inf), x)
        values = explain(model, x[:5]).values[:, :, 0]
        lines.append((name, f"{ours:,.0f} us", _beside(estimator, x, values, ours)))
    show(f"One row of {TREES} trees, {COLUMNS} columns: CPU of its exact explanation", lines)


def _beside(estimator: Any, x: Any, values: Any, ours: float) -> str:
    try:
        import shap
    except ImportError:
        return "shap is not installed"
    theirs = shap.TreeExplainer(estimator, feature_perturbation="tree_path_dependent")
    found = theirs.shap_values(x[:5])
    spent = _cpu_us(lambda row: theirs.shap_values(row[np.newaxis]), x)
    return (
        f"shap {shap.__version__}: {spent:,.0f} us, ratio {ours / spent:.2f}, apart {np.abs(found - values).max():.1e}"
    )


def _cpu_us(ask: Callable[[Any], Any], x: Any) -> float:
    ask(x[0])
    started = time.process_time()
    for row in x[:ASKED]:
        ask(row)
    return (time.process_time() - started) / ASKED * 1e6


if __name__ == "__main__":
    main()
