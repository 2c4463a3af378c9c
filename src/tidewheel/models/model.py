"""The model a training step returns: a fitted estimator, and what it expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.models.estimator import class_path
from tidewheel.models.flavours import Described, Wish, flat_rows, flavour_of
from tidewheel.models.frames import Adapter
from tidewheel.models.outputs import Output
from tidewheel.models.scorer import Matrix, Rows, Scores
from tidewheel.models.signature import Label, Signature, Task, from_rows, select


class Model:
    """A fitted estimator with its signature.

    `estimator` is a scikit-learn estimator or pipeline, a LightGBM or XGBoost model (booster or scikit-learn face), a
    PyTorch network, a callable, or any object with `predict(rows)` (and `predict_proba`, if it likes);
    `example` some rows of the features it was fitted on (pandas, Polars, Arrow, NumPy; a tensor for a network);
    `target` the label column's name, if known; `task` only where it cannot be told from the estimator;
    `classes` the labels in the order of its outputs, where it does not carry them (raw boosters, networks);
    `outputs` what a network's outputs are, where last layer and shape do not tell: numbers, logits, probabilities.
    `trust=True` allows the object to be stored as a pickle when no safe format holds it.

    >>> from sklearn.linear_model import LinearRegression
    >>> x = pl.DataFrame({"a": [0.0, 1.0, 2.0]})
    >>> model = Model(LinearRegression().fit(x, [1.0, 3.0, 5.0]), example=x)
    >>> model.predict(pl.DataFrame({"a": [3.0]})).round(6).tolist()
    [7.0]

    Raises InvalidInput for what is not fitted or cannot predict, NotFound for a column the example lacks.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        example: Any,
        target: str = "",
        task: Task | None = None,
        classes: Sequence[Label] | None = None,
        outputs: Output | None = None,
        trust: bool = False,
    ) -> None:
        wish = Wish(target=target, task=task, classes=classes, outputs=outputs or "")
        described = flavour_of(estimator).describe(estimator, example, wish)
        self.estimator = estimator
        self.signature = described.signature
        self.adapter = described.adapter
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
        rows = select(self.signature, flat_rows(frame))
        return flavour_of(self.estimator).predict(self.estimator, rows, self._described())

    def predict_proba(self, frame: Any) -> Matrix:
        """Return class probabilities [n, classes], in the order of `signature.classes`.

        Raises InvalidInput when the model gives none.
        """
        if not self.signature.probabilities:
            raise InvalidInput(
                f"{class_path(self.estimator)} gives no probabilities.",
                "Use predict, or wrap the estimator in CalibratedClassifierCV.",
            )
        probabilities = self._score(select(self.signature, flat_rows(frame))).probabilities
        return np.empty((0, 0)) if probabilities is None else probabilities

    def score(self, rows: Rows) -> Scores:
        """Predict columns by name or a matrix in the order of the fields, with probabilities where there are any."""
        return self._score(select(self.signature, flat_rows(rows)))

    def score_rows(self, rows: Sequence[Sequence[Any]]) -> Scores:
        """Predict rows of values in the order of the fields; None is a missing value."""
        return self._score(from_rows(self.signature, rows))

    def _score(self, frame: pl.DataFrame) -> Scores:
        return flavour_of(self.estimator).score(self.estimator, frame, self._described())

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

    def _described(self) -> Described:
        return Described(signature=self.signature, adapter=self.adapter)
