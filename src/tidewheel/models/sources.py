"""Write small models as source that needs no library: one file of Python, or one of C."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidewheel.errors import UnsupportedFormat
from tidewheel.models.booster_format import BoosterScorer
from tidewheel.models.bundle import Bundle
from tidewheel.models.c_source import c_source
from tidewheel.models.estimator import class_path
from tidewheel.models.formulas import Formula, formula_of, refuse
from tidewheel.models.model import Model
from tidewheel.models.parity import compare_scores, describe
from tidewheel.models.python_source import python_source
from tidewheel.models.scorer import Scores
from tidewheel.models.signature import Signature, from_rows

_NATIVE = ("skops", "lightgbm", "xgboost", "pickle")


def export_python(model: Model | Bundle) -> str:
    """Return a linear model, tree, forest or boosting as Python source with `predict(row)` and `predict_proba(row)`.

    A bundle's source is run on the golden samples before it is returned.

    Raises UnsupportedFormat for other estimators, more than 20,000 nodes, a bundle without its native form, and when
    the source answers the golden samples otherwise than the model.
    """
    estimator, signature, formula = formula_for(model)
    source = python_source(formula, signature, class_path(estimator))
    if isinstance(model, Bundle):
        _check_golden(source, model)
    return source


def export_c(model: Model | Bundle) -> str:
    """Return a linear model, tree, forest or boosting as C99 source; see its head for how to call it.

    Raises like `export_python`, whose tables it shares.
    """
    estimator, signature, formula = formula_for(model)
    if isinstance(model, Bundle):
        _check_golden(python_source(formula, signature, class_path(estimator)), model)
    return c_source(formula, signature, class_path(estimator))


def formula_for(model: Model | Bundle) -> tuple[Any, Signature, Formula]:
    """Return estimator, signature and formula of a model or a bundle; UnsupportedFormat where there is none."""
    estimator = _native(model) if isinstance(model, Bundle) else model.estimator
    signature = model.manifest.signature if isinstance(model, Bundle) else model.signature
    adapter = model.manifest.adapter if isinstance(model, Bundle) else model.adapter
    formula = formula_of(estimator, signature, adapter.categories)
    if formula.columns != len(signature.fields):
        raise refuse(estimator, f"it has {formula.columns} columns, the signature {len(signature.fields)}.")
    return estimator, signature, formula


def _native(bundle: Bundle) -> Any:
    stored = [entry.name for entry in bundle.manifest.formats]
    name = next((each for each in stored if each in _NATIVE), None)
    if name is None:
        raise UnsupportedFormat(
            f"The bundle {bundle.digest[:19]} holds its model as {', '.join(stored)} alone, source is written from the "
            "native form.",
            'Save it with save_bundle(..., formats=["onnx", "skops"]), or export the model itself.',
        )
    scorer: Any = bundle.scorer(name)
    return scorer.booster if isinstance(scorer, BoosterScorer) else scorer.estimator


def _check_golden(source: str, bundle: Bundle) -> None:
    golden, signature = bundle.manifest.golden, bundle.manifest.signature
    if not golden.rows:
        return
    names: dict[str, Any] = {}
    exec(compile(source, "<exported>", "exec"), names)  # noqa: S102 - our own source, made of numbers
    rows = from_rows(signature, golden.rows).rows()
    found = Scores(
        np.asarray([names["predict"](row) for row in rows]),
        np.asarray([names["predict_proba"](row) for row in rows]) if signature.probabilities else None,
    )
    recorded = Scores(
        np.asarray(golden.prediction, dtype=np.float64 if signature.task == "regression" else None),
        None if golden.probabilities is None else np.asarray(golden.probabilities),
    )
    parity = compare_scores(recorded, found)
    if not parity.passed:
        raise UnsupportedFormat(
            f"The source answers otherwise than the model. {describe(parity)}", "Ship ONNX, and tell us of the model."
        )
