"""The model a training step returns: a fitted estimator, and what it expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.models.estimator import (
    check_estimator,
    class_labels,
    class_path,
    feature_names,
    has_probabilities,
    infer_task,
)
from tidewheel.models.frames import Adapter, adapter_of, present
from tidewheel.models.scorer import Matrix, Rows, Scores
from tidewheel.models.signature import Field, Signature, Task, from_rows, infer_fields, select


class Model:
    """A fitted estimator with its signature.

    `estimator` is a scikit-learn estimator or pipeline, or any object with `predict(rows)`;
    `example` some rows of the features it was fitted on (pandas, Polars, Arrow, NumPy);
    `target` the label column's name, if known; `task` only where it cannot be told from the estimator.
    `trust=True` allows the object to be stored as a pickle when no safe format holds it.

    >>> from sklearn.linear_model import LinearRegression
    >>> x = pl.DataFrame({"a": [0.0, 1.0, 2.0]})
    >>> model = Model(LinearRegression().fit(x, [1.0, 3.0, 5.0]), example=x)
    >>> model.predict(pl.DataFrame({"a": [3.0]})).round(6).tolist()
    [7.0]

    Raises InvalidInput for what is not fitted or cannot predict, NotFound for a column the example lacks.
    """

    def __init__(
        self, estimator: Any, *, example: Any, target: str = "", task: Task | None = None, trust: bool = False
    ) -> None:
        check_estimator(estimator)
        classes = class_labels(estimator) if task != "regression" else None
        signature = Signature(
            task=task or infer_task(estimator, classes),
            fields=_fields(estimator, example),
            classes=classes,
            probabilities=classes is not None and has_probabilities(estimator),
            target=target,
        )
        self.estimator = estimator
        self.signature = signature
        self.adapter = adapter_of(example)
        self.trust = trust
        self._digest = ""
        self._packed = b""

    @classmethod
    def restored(cls, estimator: Any, *, signature: Signature, adapter: Adapter, trust: bool = False) -> Model:
        """Build a model from stored parts, without looking at the estimator again."""
        model = cls.__new__(cls)
        parts = {"estimator": estimator, "signature": signature, "adapter": adapter, "trust": trust}
        vars(model).update(parts, _digest="", _packed=b"")
        return model

    def predict(self, frame: Any) -> Matrix:
        """Return class labels, or numbers for regression, [n]; columns the model does not know are left out.

        Raises NotFound for a missing column, InvalidInput for values of another type.
        """
        return self._predict(select(self.signature, frame))

    def predict_proba(self, frame: Any) -> Matrix:
        """Return class probabilities [n, classes], in the order of `signature.classes`.

        Raises InvalidInput when the model gives none.
        """
        if not self.signature.probabilities:
            raise InvalidInput(
                f"{class_path(self.estimator)} gives no probabilities.",
                "Use predict, or wrap the estimator in CalibratedClassifierCV.",
            )
        return self._probabilities(select(self.signature, frame))

    def score(self, rows: Rows) -> Scores:
        """Predict columns by name or a matrix in the order of the fields, with probabilities where there are any."""
        return self._score(select(self.signature, rows))

    def score_rows(self, rows: Sequence[Sequence[Any]]) -> Scores:
        """Predict rows of values in the order of the fields; None is a missing value."""
        return self._score(from_rows(self.signature, rows))

    def _score(self, frame: pl.DataFrame) -> Scores:
        probabilities = self._probabilities(frame) if self.signature.probabilities else None
        return Scores(self._predict(frame), probabilities)

    def __digest__(self) -> str:
        """Return the digest of estimator, signature and frame kind: equal for equal models, in any process.

        An object that only a pickle can hold is digested by its pickle, which may differ between processes.
        """
        if not self._digest:
            from tidewheel.models.packing import digest_of_model

            self._digest = digest_of_model(self)
        return self._digest

    def packed(self, make: Callable[[Model], bytes]) -> bytes:
        """Return the model's own bytes, made once: packing costs as much as a small fit, and a step asks twice."""
        if not self._packed:
            self._packed = make(self)
        return self._packed

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_packed": b""}

    def __repr__(self) -> str:
        shape = f"{len(self.signature.fields)} fields"
        classes = f", {len(self.signature.classes)} classes" if self.signature.classes is not None else ""
        return f"Model({class_path(self.estimator)}, {self.signature.task}, {shape}{classes})"

    def _predict(self, frame: pl.DataFrame) -> Matrix:
        if not frame.height:
            return np.asarray(self.signature.classes or [0.0])[:0]
        answer = np.asarray(self.estimator.predict(present(frame, self.adapter)))
        if answer.ndim == 2 and answer.shape[1] == 1:
            answer = answer[:, 0]
        if answer.shape != (frame.height,):
            raise InvalidInput(
                f"{class_path(self.estimator)} answered shape {answer.shape} to {frame.height} rows.",
                "predict must return one value per row; fit one model per label.",
            )
        return answer

    def _probabilities(self, frame: pl.DataFrame) -> Matrix:
        if not frame.height:
            return np.empty((0, len(self.signature.classes or ())))
        answer = np.asarray(self.estimator.predict_proba(present(frame, self.adapter)))
        if len(self.signature.classes or ()) == 1:
            return answer[:, :1]  # boosting fitted on one class answers with a second, empty column
        return answer


def _fields(estimator: Any, example: Any) -> list[Field]:
    fields = infer_fields(example)
    names = feature_names(estimator)
    if names is None or isinstance(example, np.ndarray):
        count = getattr(estimator, "n_features_in_", len(fields))
        if count != len(fields):
            raise InvalidInput(
                f"The estimator was fitted on {count} columns, the example has {len(fields)}: "
                f"{', '.join(field.name for field in fields[:12])}.",
                "Give example rows with exactly the fitted columns, without label and time.",
            )
        return fields
    known = {field.name: field for field in fields}
    for name in names:
        if name not in known:
            raise NotFound("column", name, known, "The estimator was fitted on it, the example lacks it.")
    return [known[name] for name in names]
