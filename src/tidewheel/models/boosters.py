"""LightGBM and XGBoost, raw boosters and their scikit-learn faces: recognised, described and asked without pandas.

Rows reach a booster as a matrix in which categories are the codes of the levels it was trained with. This is what both
libraries do with a pandas frame, for a tenth of the time; an Arrow or Polars frame with categories ends LightGBM's
process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput, MissingExtra
from tidewheel.models.frames import Adapter
from tidewheel.models.outputs import read_outputs
from tidewheel.models.scorer import Matrix, Scores
from tidewheel.models.signature import Signature

Library = Literal["lightgbm", "xgboost"]

_LABELS = ("binary:hinge", "multi:softmax")
_DEFAULT_NAMES = ("Column_", "f")  # of columns that came without names, followed by their position


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a booster says of itself."""

    output: str  # meaning of its raw output: numbers, probabilities, logits or labels
    classes: int  # number of classes, 0 for numbers
    names: list[str] | None  # columns it was fitted on; None when it was given an array
    columns: int  # number of columns
    levels: list[list[str] | None]  # levels of each column, None for numbers; empty when it kept none


def library_of(estimator: object) -> Library | None:
    """Name the library of a booster or of its scikit-learn face; None for anything else.

    >>> library_of(3) is None
    True
    """
    lightgbm, xgboost = sys.modules.get("lightgbm"), sys.modules.get("xgboost")
    if lightgbm is not None and isinstance(estimator, lightgbm.Booster | lightgbm.LGBMModel):
        return "lightgbm"
    if xgboost is not None and isinstance(estimator, xgboost.Booster | xgboost.XGBModel):
        return "xgboost"
    return None


def is_raw(estimator: object) -> bool:
    """Whether it is a booster without a scikit-learn face."""
    return type(estimator).__name__ == "Booster" and library_of(estimator) is not None


def booster_of(estimator: Any) -> Any:
    """Return the booster of a scikit-learn face, cut at its best iteration, or the raw booster itself.

    Raises InvalidInput when it is not fitted.
    """
    if is_raw(estimator):
        return estimator
    if not estimator.__sklearn_is_fitted__():
        raise InvalidInput(f"This {type(estimator).__name__} is not fitted.", "Call fit(x, y) before Model(...).")
    if library_of(estimator) == "lightgbm":
        return estimator.booster_  # cuts at the best iteration by itself
    booster = estimator.get_booster()
    best = getattr(estimator, "best_iteration", None) if estimator.early_stopping_rounds is not None else None
    return booster if best is None else booster[: best + 1]


def traits_of(estimator: Any) -> Traits:
    """Read objective, columns and levels from a booster; InvalidInput for several outputs."""
    booster = booster_of(estimator)
    return _lightgbm_traits(booster) if library_of(estimator) == "lightgbm" else _xgboost_traits(booster)


def raw_scores(booster: Any, matrix: Matrix) -> Matrix:
    """Return the raw output of a booster on a matrix of numbers and codes."""
    if library_of(booster) == "lightgbm":
        answer: Matrix = np.asarray(booster.predict(matrix, num_threads=1))
        return answer
    if _boosting(booster) == "gblinear":
        import xgboost

        return np.asarray(booster.predict(xgboost.DMatrix(matrix.astype(np.float32)), validate_features=False))
    return np.asarray(booster.inplace_predict(matrix.astype(np.float32), validate_features=False))


def to_codes(signature: Signature, frame: pl.DataFrame, categories: Mapping[str, Sequence[str]]) -> Matrix:
    """Return columns as a matrix [rows, fields]: numbers as they are, categories as codes, NaN for what is missing.

    A level that training never saw is missing, as both libraries have it.
    Raises InvalidInput for a text column without levels.
    """
    matrix = np.empty((frame.height, len(signature.fields)))
    for position, field in enumerate(signature.fields):
        column = frame[field.name]
        if field.name in categories:
            levels = pl.Series(list(categories[field.name]), dtype=pl.String).cast(column.dtype)
            codes = pl.Series(range(len(levels)), dtype=pl.Float64)
            column = column.replace_strict(levels, codes, default=None, return_dtype=pl.Float64)
        elif field.kind in ("string", "datetime"):
            raise InvalidInput(
                f"The column {field.name!r} holds {field.kind}, and the booster knows no levels of it.",
                "Make it categorical before fitting (pandas astype('category'), Polars Enum), or a number.",
            )
        matrix[:, position] = column.cast(pl.Float64).to_numpy()
    return matrix


def ask_booster(booster: Any, matrix: Matrix, signature: Signature, adapter: Adapter) -> Scores:
    """Score a matrix of numbers and codes."""
    classes = signature.classes
    if not len(matrix):
        empty = np.empty((0, len(classes))) if classes and signature.probabilities else None
        return Scores(np.asarray(classes or [0.0])[:0], empty)
    return read_outputs(raw_scores(booster, matrix), adapter.output, classes)


def load_booster(library: Library, data: bytes) -> Any:
    """Return the booster of LightGBM's text or XGBoost's UBJ or JSON; MissingExtra when the library is absent.

    Raises whatever the library raises for other bytes.
    """
    if library == "lightgbm":
        return _lightgbm().Booster(model_str=data.decode("utf-8"))
    booster = _xgboost().Booster({"nthread": 1})
    booster.load_model(bytearray(data))
    booster.set_param({"nthread": 1})
    return booster


def dump_booster(estimator: Any) -> bytes:
    """Return a booster as its own library stores it: LightGBM's text, XGBoost's UBJ."""
    booster = booster_of(estimator)
    if library_of(estimator) == "lightgbm":
        text: str = booster.model_to_string()
        return text.encode()
    return bytes(booster.save_raw("ubj"))


def described(estimator: Any) -> dict[str, Any]:
    """Return an XGBoost model as the JSON that it stores."""
    found: dict[str, Any] = json.loads(bytes(booster_of(estimator).save_raw("json")))
    return found


def _lightgbm_traits(booster: Any) -> Traits:
    header = booster.model_to_string(num_iteration=1).split("\ntree_sizes")[0]
    facts = dict(line.split("=", 1) for line in header.splitlines() if "=" in line)
    objective = facts.get("objective", "").split(" ")
    count = int(facts.get("num_class", "1"))
    kind = objective[0]
    names = [str(name) for name in booster.feature_name()]
    levels: list[list[str] | None] = [None] * len(names)
    found = iter(booster.pandas_categorical or [])
    if booster.pandas_categorical:
        for position, info in enumerate(facts.get("feature_infos", "").split(" ")):
            if _categorical(info):
                levels[position] = [str(level) for level in next(found, [])]
    classes = 2 if kind == "binary" else count if kind in ("multiclass", "multiclassova") else 0
    return Traits(
        output="probabilities" if classes else "numbers",
        classes=classes,
        names=_unless_default(names),
        columns=len(names),
        levels=levels if booster.pandas_categorical else [],
    )


def _categorical(info: str) -> bool:
    """LightGBM writes ranges as [low:high], levels as 0:1:2; `none` is a column that no tree can split."""
    return not info.startswith("[") and info != "none"


def _xgboost_traits(booster: Any) -> Traits:
    learner = json.loads(booster.save_config())["learner"]
    objective, shape = learner["objective"]["name"], learner["learner_model_param"]
    if int(shape.get("num_target", 1)) > 1:
        raise InvalidInput("This booster predicts several numbers at once.", "Fit one model per number.")
    several = max(int(shape.get("num_class", 0)), 0)
    classes = several or (2 if objective.startswith("binary:") else 0)
    output = "labels" if objective in _LABELS else "logits" if objective == "binary:logitraw" else "probabilities"
    names = booster.feature_names
    return Traits(
        output=output if classes else "numbers",
        classes=classes,
        names=None if names is None else _unless_default([str(name) for name in names]),
        columns=booster.num_features(),
        levels=_xgboost_levels(booster),
    )


def _xgboost_levels(booster: Any) -> list[list[str] | None]:
    if "c" not in (booster.feature_types or []) or not hasattr(booster, "get_categories"):
        return []
    try:
        kept = booster.get_categories(export_to_arrow=True).to_arrow()
    except ImportError as error:
        raise MissingExtra("pyarrow", "arrow") from error
    return [None if levels is None else [str(level) for level in levels.to_pylist()] for _, levels in kept]


def _boosting(booster: Any) -> str:
    name: str = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"]
    return name


def _unless_default(names: list[str]) -> list[str] | None:
    default = any(names == [f"{prefix}{place}" for place in range(len(names))] for prefix in _DEFAULT_NAMES)
    return None if default else names


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("lightgbm", "lightgbm") from error
    return lightgbm


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtra("xgboost", "xgboost") from error
    return xgboost
