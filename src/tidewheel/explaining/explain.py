"""Choose how a model is explained, exactly where that is possible, and explain rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidewheel.errors import InvalidInput
from tidewheel.explaining.background import background_rows, column_means
from tidewheel.explaining.boosters import BoosterShap
from tidewheel.explaining.ensemble import Ensemble
from tidewheel.explaining.linear import LinearShap, fit_weights
from tidewheel.explaining.onnx_trees import onnx_ensemble
from tidewheel.explaining.records import Contributions, Explainer, Explanation, Floats, Output
from tidewheel.explaining.sampling import Ask, SampledShap
from tidewheel.explaining.sklearn_trees import sklearn_ensemble
from tidewheel.explaining.tree_shap import BackgroundShap, PathShap, path_base
from tidewheel.models.boosters import booster_of, library_of
from tidewheel.models.bundle import Bundle
from tidewheel.models.estimator import class_path
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer
from tidewheel.models.signature import Signature, select

MOST_ROWS = 1_000  # of one call
MOST_BACKGROUND = 200  # rows
_CLOSE = 1e-3  # how far sums of trees or coefficients may be from the model's own answers, as a share of their spread
_AFFINE = frozenset({"StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What is to be explained."""

    signature: Signature  # inputs and answers
    scorer: Scorer  # the fastest form
    native: Any  # estimator or booster, None when only other forms are there
    name: str  # class of the estimator
    background: list[list[Any]]  # rows in the order of the fields
    means: Floats | None  # of the columns in training
    model: Model | None  # with native: how rows reach it
    graph: bytes = b""  # ONNX, if that is a form


def explain(
    model: Model | Bundle,
    rows: Any,
    *,
    background: Any = None,
    budget_ms: float | None = None,
    seed: int = 0,
) -> Explanation:
    """Return what each feature of some rows (any frame; at most 1,000) contributes to the model's answers.

    Trees, linear models and boosters are explained exactly, anything else by sampling, with standard errors. What a
    feature adds is counted from the mean answer: of the training rows along a tree's paths, otherwise of `background`
    rows, which a bundle draws from its baseline. After `budget_ms` milliseconds the explanation is what was found
    until then: fewer rows, or larger errors.

    >>> from sklearn.linear_model import LinearRegression
    >>> x = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])
    >>> found = explain(Model(LinearRegression().fit(x, x @ [3.0, 1.0]), example=x), [[3.0, 1.0]], background=x)
    >>> found.method, found.values[0, :, 0].round(6).tolist()
    ('linear', [4.5, 0.5])

    Raises InvalidInput for too many rows or a model that needs a background and has none.
    """
    started = time.perf_counter()
    deadline = np.inf if budget_ms is None else started + budget_ms / 1_000
    frame = select(model.signature if isinstance(model, Model) else model.manifest.signature, _table(rows))
    explainer = explainer_of(model, background=background, seed=seed)
    plain = [[_plain(value) for value in row] for row in frame.iter_rows()]
    signature = model.signature if isinstance(model, Model) else model.manifest.signature
    return explain_rows(explainer, signature, plain, deadline)


def explain_rows(
    explainer: Explainer, signature: Signature, rows: Sequence[Sequence[Any]], deadline: float
) -> Explanation:
    """Explain rows of values in the order of the fields; the first is explained whatever the time."""
    if len(rows) > MOST_ROWS:
        raise InvalidInput(f"{len(rows):,} rows are to be explained.", f"Give at most {MOST_ROWS:,} at once.")
    found: list[Contributions] = []
    for row in rows:
        if found and time.perf_counter() >= deadline:
            break
        found.append(explainer.explain_row(row, deadline))
    width = found[0].values.shape[1] if found else 1
    return Explanation(
        method=explainer.method,
        output=explainer.output,
        fields=tuple(signature.names),
        outputs=_outputs(signature, width),
        rows=tuple(found),
        asked=len(rows),
    )


def explainer_of(model: Model | Bundle, *, background: Any = None, seed: int = 0) -> Explainer:
    """Prepare a model to be explained; what is found here is used for every row."""
    subject = _of_model(model, background) if isinstance(model, Model) else _of_bundle(model, background, seed)
    for explainer in _exact(subject):
        return explainer
    if not subject.background:
        raise InvalidInput(
            f"{subject.name} can only be explained against other rows.", "Give background=, some rows of its training."
        )
    output: Output = "prediction" if subject.signature.task == "regression" else "probability"
    return SampledShap(ask=_ask(subject), background=subject.background, output=output, seed=seed)


def _of_model(model: Model, background: Any) -> _Subject:
    rows = [] if background is None else _background(model.signature, background)
    means = None
    if rows and model.signature.numeric:
        means = np.nanmean(np.array(rows, dtype=np.float64), axis=0)
    return _Subject(
        signature=model.signature,
        scorer=model,
        native=model.estimator,
        name=class_path(model.estimator),
        background=rows,
        means=means,
        model=model,
    )


def _of_bundle(bundle: Bundle, background: Any, seed: int) -> _Subject:
    manifest = bundle.manifest
    names = [entry.name for entry in manifest.formats if not entry.trust or bundle.trust]
    scorer = bundle.scorer()
    native, model = None, None
    for name in names:
        if name in ("lightgbm", "xgboost"):
            native = getattr(bundle.scorer(name), "booster", None)
        elif name in ("skops", "pickle"):
            found = bundle.scorer(name)
            if isinstance(found, Model):
                native, model = found.estimator, found
    if native is not None and model is None:
        model = Model.restored(native, signature=manifest.signature, adapter=manifest.adapter)
    rows = background_rows(manifest, seed=seed) if background is None else _background(manifest.signature, background)
    graph = [bundle.blobs.get(entry.digest) for entry in manifest.formats if entry.name == "onnx"]
    return _Subject(
        signature=manifest.signature,
        scorer=scorer,
        native=native,
        name=manifest.estimator,
        background=rows,
        means=column_means(manifest) if manifest.signature.numeric else None,
        model=model,
        graph=graph[0] if graph else b"",
    )


def _background(signature: Signature, background: Any) -> list[list[Any]]:
    frame = select(signature, background)
    if frame.height > MOST_BACKGROUND:
        frame = frame.sample(MOST_BACKGROUND, seed=0)
    return [[_plain(value) for value in row] for row in frame.iter_rows()]


def _exact(subject: _Subject) -> Iterator[Explainer]:
    """Yield the exact explainers that answer as the model does, the best first."""
    if subject.native is not None and subject.model is not None and library_of(subject.native) is not None:
        output: Output = "prediction" if subject.signature.task == "regression" else "margin"
        yield BoosterShap(
            booster=booster_of(subject.native),
            signature=subject.signature,
            adapter=subject.model.adapter,
            output=output,
        )
    if not subject.signature.numeric:
        return
    yield from _paths(subject)
    yield from _graphs(subject)
    yield from _weighted(subject)


def _paths(subject: _Subject) -> Iterator[Explainer]:
    ensemble = None if subject.native is None else sklearn_ensemble(subject.native)
    if ensemble is None:
        return
    found = _meaning(subject, ensemble) if subject.background else _assumed(subject.signature, ensemble, subject.name)
    if found is not None:
        width = len(subject.signature.fields)
        yield PathShap(ensemble=ensemble, features=width, output=found, base=path_base(ensemble))


def _graphs(subject: _Subject) -> Iterator[Explainer]:
    if not subject.graph or not subject.background:
        return
    ensemble = onnx_ensemble(subject.graph, len(subject.signature.fields))
    output = None if ensemble is None else _meaning(subject, ensemble)
    if ensemble is None or output is None:
        return
    rows = np.array([ensemble.rounded(_numbers(row)) for row in subject.background])
    yield BackgroundShap(
        ensemble=ensemble,
        features=len(subject.signature.fields),
        output=output,
        background=rows,
        answers=np.array([ensemble.answer(row) for row in rows]),
    )


def _weighted(subject: _Subject) -> Iterator[Explainer]:
    """Yield a linear explainer when class, preprocessing and every background row say that the model is linear."""
    if not _is_linear(subject.name) or subject.means is None:
        return
    rows = np.array([_numbers(row) for row in subject.background])
    width = rows.shape[1] if rows.size else 0
    rows = np.vstack([rows, subject.means, *_steps(rows, subject.means)]) if width else rows
    if not rows.size or np.isnan(rows).any():
        return
    for output, answers in _answers(subject, rows.tolist()).items():
        weights, constant = fit_weights(rows, answers)
        if _near(rows @ weights + constant, answers):
            yield LinearShap(weights=weights, constant=constant, means=subject.means, output=output)
            return


def _steps(rows: Floats, means: Floats) -> Floats:
    """Return the means with one column moved at a time, so that every weight is seen apart."""
    return np.asarray(means + np.diag(np.maximum(rows.std(axis=0), 1e-3)))


def _is_linear(name: str) -> bool:
    whole, _, inner = name.partition("(")
    parts = [part.strip() for part in inner.rstrip(")").split(">") if part.strip()]
    if parts:
        return all(part in _AFFINE for part in parts[:-1]) and _linear_class(parts[-1])
    return whole.startswith("sklearn.linear_model")


def _linear_class(name: str) -> bool:
    import sklearn.linear_model

    return hasattr(sklearn.linear_model, name)


def _meaning(subject: _Subject, ensemble: Ensemble) -> Output | None:
    """Say what an ensemble's sums are by comparing them with the model's answers; None when they are neither."""
    sums = np.array([ensemble.answer(ensemble.rounded(_numbers(row))) for row in subject.background])
    for output, answers in _answers(subject, subject.background).items():
        same = answers.shape == sums.shape or output == "margin"
        if (same and _near(sums, answers)) or (output == "margin" and _same_margins(sums, answers)):
            return output
    return None


def _same_margins(sums: Floats, answers: Floats) -> bool:
    """Compare margins of several classes, which mean the same when all are moved by one number."""
    if sums.shape != answers.shape or sums.shape[1] < 3:
        return False
    return _near(sums - sums.mean(axis=1, keepdims=True), answers - answers.mean(axis=1, keepdims=True))


def _assumed(signature: Signature, ensemble: Ensemble, name: str) -> Output | None:
    if signature.task == "regression":
        return "prediction"
    return "margin" if "Boosting" in name else "probability" if ensemble.outputs else None


def _answers(subject: _Subject, rows: Sequence[Sequence[Any]]) -> Mapping[Output, Floats]:
    """Return what sums may stand for, each [rows, outputs]."""
    answers = _ask(subject)(rows)
    if subject.signature.task == "regression":
        return {"prediction": answers}
    if not subject.signature.probabilities:
        return {}
    safe = np.clip(answers.astype(np.float64), 1e-12, 1 - 1e-12)
    margins = np.log(safe / (1 - safe)) if answers.shape[1] == 1 else np.log(safe)
    return {"probability": answers, "margin": margins}


def _ask(subject: _Subject) -> Ask:
    signature, scorer = subject.signature, subject.scorer
    classes = np.asarray(signature.classes) if signature.classes is not None else None

    def ask(rows: Sequence[Sequence[Any]]) -> Floats:
        scores = scorer.score_rows(rows)
        if classes is None:
            return np.asarray(scores.prediction, dtype=np.float64).reshape(-1, 1)
        if scores.probabilities is None:
            table = (scores.prediction[:, np.newaxis] == classes[np.newaxis, :]).astype(np.float64)
        else:
            table = np.asarray(scores.probabilities, dtype=np.float64)
        found: Floats = table[:, 1:] if table.shape[1] == 2 else table
        return found

    return ask


def _near(found: Floats, wanted: Floats) -> bool:
    if found.shape != wanted.shape or not len(wanted):
        return False
    spread = float(np.ptp(wanted)) or float(np.abs(wanted).max()) or 1.0
    return bool(np.abs(found - wanted).max() <= _CLOSE * spread)


def _outputs(signature: Signature, width: int) -> tuple[Any, ...]:
    classes = signature.classes or []
    if signature.task == "regression":
        return ("prediction",)
    return tuple(classes[-1:]) if width == 1 else tuple(classes[:width])


def _numbers(row: Sequence[Any]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in row]


def _table(rows: Any) -> Any:
    """Take lists of rows too: values in the order of the fields, or objects."""
    if isinstance(rows, list) and rows and isinstance(rows[0], Mapping):
        import polars as pl

        return pl.DataFrame(rows)
    return np.asarray(rows) if isinstance(rows, list) else rows


def _plain(value: Any) -> Any:
    if isinstance(value, float) and np.isnan(value):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value
