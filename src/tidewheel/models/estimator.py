"""What can be learnt from an estimator by looking at it: task, classes, feature names, fitted or not."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from tidewheel.errors import InvalidInput
from tidewheel.models.signature import Label, Task


def check_estimator(estimator: object) -> None:
    """Refuse what cannot predict or was not fitted, with InvalidInput."""
    if not callable(predictor(estimator)):
        raise InvalidInput(
            f"A {type(estimator).__name__} has no predict method.",
            "Give a fitted scikit-learn estimator or pipeline, a booster, a network, a callable, or any object with "
            "predict(rows).",
        )
    if _is_sklearn(estimator) and not _fitted(estimator):
        raise InvalidInput(f"This {type(estimator).__name__} is not fitted.", "Call fit(x, y) before Model(...).")


def predictor(estimator: Any) -> Any:
    """Return what is called with rows: `predict`, or the estimator itself where it is a plain callable.

    >>> predictor(len) is len
    True
    """
    found = getattr(estimator, "predict", None)
    return estimator if found is None and not isinstance(estimator, type) and callable(estimator) else found


def class_labels(estimator: object) -> list[Label] | None:
    """Return the classes in the order of the probabilities, as plain Python values; None when there are none."""
    found = getattr(estimator, "classes_", None)
    if found is None:
        return None
    if isinstance(found, list) or np.ndim(found) != 1:
        raise InvalidInput(
            f"This {type(estimator).__name__} predicts several labels at once.", "Fit one model per label."
        )
    labels: list[Label] = np.asarray(found).tolist()
    return labels


def infer_task(estimator: object, classes: list[Label] | None, default: Task | None = None) -> Task:
    """Tell whether an estimator predicts a number or a class; `default` where it has no classes and does not say.

    Raises InvalidInput when it cannot be told from the estimator.
    """
    if classes is not None:
        return "binary" if len(classes) <= 2 else "multiclass"
    if _is_sklearn(estimator):
        from sklearn.base import is_regressor

        if is_regressor(estimator):
            return "regression"
    if default is not None:
        return default
    raise InvalidInput(
        f"Whether this {type(estimator).__name__} predicts a class or a number cannot be told from it.",
        'Say so: Model(estimator, example=..., task="regression"), or "binary", or "multiclass".',
    )


def feature_names(estimator: object) -> list[str] | None:
    """Return the columns it was fitted on, when it remembers them."""
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def has_probabilities(estimator: object) -> bool:
    """Whether predict_proba can be called; an SVC without probability=True says no."""
    return callable(getattr(estimator, "predict_proba", None))


def class_path(estimator: object) -> str:
    """Return module and class, with the steps of a pipeline.

    >>> class_path(3)
    'builtins.int'
    """
    kind: Any = estimator if inspect.isroutine(estimator) else type(estimator)
    steps = getattr(estimator, "steps", None)
    inner = f"({' > '.join(type(step).__name__ for _, step in steps)})" if isinstance(steps, list) else ""
    return f"{kind.__module__}.{kind.__qualname__}{inner}"


def single_threaded(estimator: Any) -> Any:
    """Set every n_jobs of a scikit-learn estimator to 1 and return it; a pool costs more than a small answer."""
    if not _is_sklearn(estimator):
        return estimator
    jobs = {name: 1 for name in estimator.get_params(deep=True) if name == "n_jobs" or name.endswith("__n_jobs")}
    return estimator.set_params(**jobs) if jobs else estimator


def _is_sklearn(estimator: object) -> bool:
    from sklearn.base import BaseEstimator

    return isinstance(estimator, BaseEstimator)


def _fitted(estimator: object) -> bool:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True
