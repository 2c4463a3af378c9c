"""Fit a scikit-learn estimator on rows."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import polars as pl

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.models.model import Model
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns, missing_in, refuse_empty

EXAMPLE_ROWS = 100  # rows that tell the model's signature


@step
def fit(
    rows: pl.DataFrame,
    label: str,
    estimator: Any,
    *,
    parameters: Mapping[str, Any] | None = None,
    features: list[str] | None = None,
    seed: int = 0,
    trust: bool = False,
) -> Model:
    """Return a model fitted on `features` (all columns but the label) to tell the `label`.

    `estimator` is an import path ("sklearn.linear_model.Ridge") or an estimator or pipeline, which is cloned;
    `parameters` are set on it; `seed` becomes its random_state where it has one that is not set. `trust` allows an
    estimator that only a pickle can hold.

    >>> rows = pl.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 3.0, 5.0]})
    >>> fit(rows, label="y", estimator="sklearn.linear_model.LinearRegression").predict(rows).round(6).tolist()
    [1.0, 3.0, 5.0]

    Raises NotFound for a column, class or parameter that does not exist, InvalidInput for an empty frame, missing
    labels, one class alone, and whatever the estimator refuses.
    """
    refuse_empty(rows, "fit on")
    names = [name for name in rows.columns if name != label] if features is None else list(features)
    check_columns(rows, [label, *names])
    if label in names or not names:
        raise InvalidInput(
            f"The features are {names or 'none'} and the label is {label!r}.", "Give at least one other column."
        )
    _check_label(rows[label])
    made = _with(_made(estimator), parameters or {}, seed)
    x = rows.select(names)
    try:
        made.fit(x, rows[label].to_numpy())
    except (TypeError, ValueError) as error:
        kinds = ", ".join(f"{name} {dtype}" for name, dtype in x.schema.items() if not dtype.is_numeric())
        raise InvalidInput(
            f"{type(made).__name__} refuses these rows: {str(error).splitlines()[0]}",
            f"Encode what is not a number ({kinds}) and fill what is missing." if kinds else "Look at these columns.",
        ) from error
    return Model(made, example=x.head(EXAMPLE_ROWS), target=label, trust=trust)


def _check_label(values: pl.Series) -> None:
    gone = missing_in(values)
    if gone.any():
        raise InvalidInput(
            f"{gone.sum()} of {len(values)} labels {values.name!r} are missing (first in row {gone.arg_max()}).",
            "Leave out rows without a label.",
        )
    if values.n_unique() == 1:
        raise InvalidInput(
            f"The label {values.name!r} is {values[0]!r} in all {len(values)} rows, so there is nothing to learn.",
            "Add rows with other labels.",
        )


def _made(estimator: Any) -> Any:
    found = _imported(estimator) if isinstance(estimator, str) else estimator
    if inspect.isclass(found):
        try:
            found = found()
        except TypeError as error:
            raise InvalidInput(f"{found.__name__} cannot be made: {error}.", "Give the estimator itself.") from error
    if not (hasattr(found, "fit") and hasattr(found, "get_params")):
        raise InvalidInput(
            f"{estimator!r} is not an estimator.", 'Give "sklearn.linear_model.Ridge", or Ridge(alpha=2.0) itself.'
        )
    from sklearn.base import clone

    return clone(found)


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        loaded = importlib.import_module(module)
    except (ImportError, ValueError) as error:
        raise NotFound("module", module, mend=f"It stands in estimator={path!r}.") from error
    if not hasattr(loaded, name):
        raise NotFound(f"estimator in {module}", name, [key for key in dir(loaded) if not key.startswith("_")])
    return getattr(loaded, name)


def _with(estimator: Any, parameters: Mapping[str, Any], seed: int) -> Any:
    known = estimator.get_params(deep=True)
    for name in parameters:
        if name not in known:
            raise NotFound(f"parameter of {type(estimator).__name__}", name, known)
    seeds = {
        name: seed
        for name, value in known.items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None and name not in parameters
    }
    return estimator.set_params(**parameters, **seeds)
