"""A foreign ONNX graph as an estimator: what comes as ONNX is served as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from tidewheel.errors import UnsupportedFormat
from tidewheel.models.onnx_graphs import MATRIX
from tidewheel.models.scorer import Matrix
from tidewheel.models.signature import Label, Signature, infer_fields


class OnnxModel:
    """An ONNX graph with `predict` and, for classifiers, `predict_proba` and `classes_`.

    It takes one matrix of numbers, or one input per column; a classifier answers with labels, then probabilities
    [rows, classes] (no ZipMap). Labels of text have to be named: Model(..., classes=[...]).

    Raises UnsupportedFormat for other bytes and other outputs.
    """

    def __init__(self, data: bytes, classes: Sequence[Label] | None = None) -> None:
        import onnx

        try:
            graph = onnx.load_from_string(data)
            onnx.checker.check_model(graph, full_check=False)
        except Exception as error:
            raise UnsupportedFormat(
                f"This is no ONNX graph: {str(error).strip()[:200]}", "Give the bytes of a .onnx file."
            ) from error
        _name_matrix(graph.graph)
        outputs = list(graph.graph.output)
        if any(not each.type.HasField("tensor_type") for each in outputs):
            raise UnsupportedFormat(
                "The graph answers with maps (ZipMap).", 'Convert it with options={"zipmap": False}.'
            )
        self.data: bytes = graph.SerializeToString(deterministic=True)
        if len(outputs) > 1:
            width = int(outputs[1].type.tensor_type.shape.dim[-1].dim_value) or len(classes or ())
            self.classes_ = np.asarray(classes if classes is not None else range(width))
        elif classes is not None:
            self.classes_ = np.asarray(classes)
        self._scorer: Any = None

    def predict(self, rows: pl.DataFrame) -> Matrix:
        """Return labels or numbers."""
        prediction: Matrix = self._ask(rows).prediction
        return prediction

    def __getattr__(self, name: str) -> Any:
        if name == "predict_proba" and "classes_" in vars(self):
            return lambda rows: self._ask(rows).probabilities
        raise AttributeError(name)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_scorer": None}

    def _ask(self, rows: pl.DataFrame) -> Any:
        if self._scorer is None:
            from tidewheel.models.onnx_format import OnnxScorer

            classes = self.classes_.tolist() if "classes_" in vars(self) else None
            signature = Signature(
                task="regression" if classes is None else "multiclass",
                fields=infer_fields(rows),
                classes=classes,
                probabilities=classes is not None,
            )
            self._scorer = OnnxScorer(self.data, signature)
        return self._scorer.score(rows)


def _name_matrix(graph: Any) -> None:
    """Call the one input of a matrix what every graph here calls it, in place."""
    known = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in known]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 2:
        return
    if inputs[0].type.tensor_type.shape.dim[1].dim_value == 1:
        return
    before, inputs[0].name = inputs[0].name, MATRIX
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == before:
                node.input[place] = MATRIX
