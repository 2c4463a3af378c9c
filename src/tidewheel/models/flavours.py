"""The kinds of estimators that a model may hold: how each is described when it comes, and asked afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.models.boosters import ask_booster, booster_of, is_raw, library_of, to_codes, traits_of
from tidewheel.models.estimator import (
    check_estimator,
    class_labels,
    class_path,
    feature_names,
    has_probabilities,
    infer_task,
    predictor,
)
from tidewheel.models.frames import Adapter, adapter_of, present
from tidewheel.models.networks import (
    ask_network,
    check_network,
    infer_output,
    is_network,
    is_tensor,
    run_network,
    tensor_rows,
    to_tensor,
)
from tidewheel.models.scorer import Matrix, Scores
from tidewheel.models.signature import Field, Label, Signature, Task, infer_fields, select


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user says of a model because it cannot be told from the estimator."""

    target: str = ""  # name of the label column
    task: Task | None = None  # what is predicted
    classes: Sequence[Label] | None = None  # labels in the order of the outputs
    outputs: str = ""  # what raw outputs mean: numbers, probabilities, logits, log_probabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a model needs to know of its estimator."""

    signature: Signature  # inputs and outputs
    adapter: Adapter  # how rows are handed to it


class Flavour(Protocol):
    """A kind of estimator."""

    @property
    def name(self) -> str:
        """Short name: python, booster, network."""
        ...

    def describe(self, estimator: Any, example: Any, wish: Wish) -> Described:
        """Check estimator and example and infer the signature; InvalidInput or NotFound where they do not fit."""
        ...

    def predict(self, estimator: Any, frame: pl.DataFrame, described: Described) -> Matrix:
        """Return one prediction per row."""
        ...

    def score(self, estimator: Any, frame: pl.DataFrame, described: Described) -> Scores:
        """Return predictions, and probabilities where the signature has them."""
        ...


def flavour_of(estimator: object) -> Flavour:
    """Return the kind of an estimator; anything with `predict`, and any callable, is of the kind python.

    >>> flavour_of(max).name
    'python'
    """
    if library_of(estimator) is not None:
        return Boosters()
    return Networks() if is_network(estimator) else Python()


class Python:
    """scikit-learn estimators, objects with `predict`, and plain callables."""

    name = "python"

    def describe(self, estimator: Any, example: Any, wish: Wish) -> Described:
        """Read classes and columns from the estimator; the task where it tells it."""
        check_estimator(estimator)
        found = class_labels(estimator) if wish.task != "regression" else None
        classes = list(wish.classes) if wish.classes is not None else found
        signature = Signature(
            task=wish.task or infer_task(estimator, classes),
            fields=_fields(example, feature_names(estimator), getattr(estimator, "n_features_in_", None)),
            classes=classes,
            probabilities=classes is not None and has_probabilities(estimator),
            target=wish.target,
        )
        return Described(signature=signature, adapter=adapter_of(example))

    def predict(self, estimator: Any, frame: pl.DataFrame, described: Described) -> Matrix:
        """Ask `predict`, in the kind of frame the estimator was fitted on."""
        if not frame.height:
            return np.asarray(described.signature.classes or [0.0])[:0]
        answer = np.asarray(predictor(estimator)(present(frame, described.adapter)))
        if answer.ndim == 2 and answer.shape[1] == 1:
            answer = answer[:, 0]
        if answer.shape != (frame.height,):
            raise InvalidInput(
                f"{class_path(estimator)} answered shape {answer.shape} to {frame.height} rows.",
                "predict must return one value per row; fit one model per label.",
            )
        return answer

    def score(self, estimator: Any, frame: pl.DataFrame, described: Described) -> Scores:
        """Ask `predict`, and `predict_proba` where there is one."""
        if not described.signature.probabilities:
            return Scores(self.predict(estimator, frame, described))
        count = len(described.signature.classes or ())
        if not frame.height:
            return Scores(self.predict(estimator, frame, described), np.empty((0, count)))
        table = np.asarray(estimator.predict_proba(present(frame, described.adapter)))
        if count == 1:
            table = table[:, :1]  # boosting fitted on one class answers with a second, empty column
        return Scores(self.predict(estimator, frame, described), table)


class Boosters:
    """LightGBM and XGBoost, by their raw boosters."""

    name = "booster"

    def describe(self, estimator: Any, example: Any, wish: Wish) -> Described:
        """Read objective, columns and levels from the booster; labels from the scikit-learn face or the user."""
        traits, adapter = traits_of(estimator), adapter_of(example)
        found = None if is_raw(estimator) else getattr(estimator, "classes_", None)
        labels = [] if found is None else np.asarray(found).tolist()
        if found is not None and not traits.classes:
            raise InvalidInput(
                f"This {type(estimator).__name__} has an objective of its own, whose outputs are no probabilities.",
                "Fit it with one of the library's objectives, or wrap it in an object with predict and predict_proba.",
            )
        classes = list(wish.classes) if wish.classes is not None else labels or list(range(traits.classes))
        if wish.task == "regression" or not traits.classes:
            classes, output = [], "numbers"
        else:
            output = wish.outputs or traits.output
        signature = Signature(
            task=wish.task or infer_task(estimator, classes or None, default="regression"),
            fields=_fields(example, traits.names, traits.columns),
            classes=classes or None,
            probabilities=bool(classes) and output != "labels",
            target=wish.target,
        )
        levels = dict(zip(signature.names, traits.levels, strict=False))
        adapter = msgspec.structs.replace(
            adapter,
            categories=adapter.categories | {name: kept for name, kept in levels.items() if kept is not None},
            output=output,
        )
        described = Described(signature=signature, adapter=adapter)
        self.score(estimator, select(signature, example)[:8], described)  # says what does not fit
        return described

    def predict(self, estimator: Any, frame: pl.DataFrame, described: Described) -> Matrix:
        """Return labels or numbers."""
        return self.score(estimator, frame, described).prediction

    def score(self, estimator: Any, frame: pl.DataFrame, described: Described) -> Scores:
        """Ask the booster with a matrix of numbers and codes."""
        matrix = to_codes(described.signature, frame, described.adapter.categories)
        return ask_booster(booster_of(estimator), matrix, described.signature, described.adapter)


class Networks:
    """PyTorch modules that take one tensor and answer with one."""

    name = "network"

    def describe(self, estimator: Any, example: Any, wish: Wish) -> Described:
        """Run the example once: what comes out tells task and classes, unless the user said so."""
        check_network(estimator)
        rows, shape, dtype = tensor_rows(example)
        fields = infer_fields(rows)
        adapter = Adapter(kind="numpy", shape=shape, dtype=dtype)
        draft = Signature(task="regression", fields=fields)
        raw = run_network(estimator, to_tensor(draft, select(draft, rows)[:8], dtype), shape)
        output = wish.outputs or infer_output(estimator, raw, wish.task)
        width = 1 if raw.ndim == 1 else int(raw.shape[-1])
        classes = None if output == "numbers" else list(wish.classes or range(max(width, 2)))
        signature = Signature(
            task=wish.task or infer_task(estimator, classes, default="regression"),
            fields=fields,
            classes=classes,
            probabilities=classes is not None,
            target=wish.target,
        )
        described = Described(signature=signature, adapter=msgspec.structs.replace(adapter, output=output))
        self.score(estimator, select(signature, rows)[:8], described)
        return described

    def predict(self, estimator: Any, frame: pl.DataFrame, described: Described) -> Matrix:
        """Return labels or numbers."""
        return self.score(estimator, frame, described).prediction

    def score(self, estimator: Any, frame: pl.DataFrame, described: Described) -> Scores:
        """Run the network without gradients."""
        return ask_network(estimator, frame, described.signature, described.adapter)


def flat_rows(rows: Any) -> Any:
    """Return tensors and arrays of several axes as a matrix; frames and matrices as they are."""
    if is_tensor(rows) or (isinstance(rows, np.ndarray) and rows.ndim > 2):
        return tensor_rows(rows)[0]
    return rows


def _fields(example: Any, names: list[str] | None, columns: int | None) -> list[Field]:
    fields = infer_fields(example)
    if names is not None and not isinstance(example, np.ndarray) and _renamed(names, fields):
        names = None  # LightGBM writes "wind_speed" for the column "wind speed"
    if names is None or isinstance(example, np.ndarray):
        if columns is not None and columns != len(fields):
            raise InvalidInput(
                f"The estimator was fitted on {columns} columns, the example has {len(fields)}: "
                f"{', '.join(field.name for field in fields[:12])}.",
                "Give example rows with exactly the fitted columns, without label and time.",
            )
        return fields
    known = {field.name: field for field in fields}
    for name in names:
        if name not in known:
            raise NotFound("column", name, known, "The estimator was fitted on it, the example lacks it.")
    return [known[name] for name in names]


def _renamed(names: list[str], fields: list[Field]) -> bool:
    given = [field.name for field in fields]
    return names != given and names == [name.replace(" ", "_") for name in given]
