"""Models as ONNX: converted by skl2onnx, onnxmltools or torch.onnx, scored by ONNX Runtime on one thread."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput, UnsupportedFormat
from tidewheel.models.boosters import library_of
from tidewheel.models.estimator import class_path
from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.networks import is_network
from tidewheel.models.onnx_graphs import MATRIX, booster_graph, network_graph
from tidewheel.models.onnx_model import OnnxModel
from tidewheel.models.onnx_trees import TreeCount, count_trees, round_before_trees
from tidewheel.models.scorer import Matrix, Rows, Scores
from tidewheel.models.signature import Columns, Field, Signature, select, to_matrix

MAX_NODES = 1_000_000  # conversion takes 5 microseconds per tree node: 5 seconds and 40 MB here

Number = type[np.float32] | type[np.float64] | type[np.int64]
_NUMPY: dict[str, Number] = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a graph takes its inputs."""

    matrix: bool  # one matrix, or one input per column
    floats: Number  # type of columns of numbers
    ints: Number  # type of integer and boolean columns without missing values


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFormat:
    """ONNX without ZipMap: one numeric matrix where the pipeline allows it, otherwise one input per column."""

    name: str = "onnx"  # as manifests call it
    max_nodes: int = MAX_NODES  # tree nodes above which a model is not converted

    def candidates(self, model: Model) -> Iterator[bytes]:
        """Yield float32 first, float64 after it for models whose sums need more digits.

        Raises UnsupportedFormat when skl2onnx knows no converter, a field is a datetime, or the trees are too many.
        """
        if library_of(model.estimator) is not None:
            yield booster_graph(model)
            return
        if isinstance(model.estimator, OnnxModel):
            yield model.estimator.data
            return
        if is_network(model.estimator):
            yield network_graph(model)
            return
        trees = self._check(model)
        failure: Exception | None = None
        # skl2onnx never ends on an infinite threshold of a forest in float64; forests take float32 anyway.
        for layout in _layouts(model, doubles=not trees.forest):
            try:
                yield _convert(model, layout)
            except UnsupportedFormat as error:
                failure = failure or error
        if failure:
            raise failure

    def load(self, data: bytes, *, signature: Signature, adapter: Adapter) -> OnnxScorer:
        """Open a session; raises UnsupportedFormat for an operator that the installed ONNX Runtime does not have."""
        del adapter  # the graph takes arrays, whatever the estimator was fitted on
        return OnnxScorer(data, signature)

    def _check(self, model: Model) -> TreeCount:
        times = [field.name for field in model.signature.fields if field.kind == "datetime"]
        if times:
            raise UnsupportedFormat(
                f"ONNX has no datetime input: {', '.join(times)}.", "Turn datetimes into numbers before the model."
            )
        trees = count_trees(model.estimator)
        if trees.forest + trees.boosting > self.max_nodes:
            raise UnsupportedFormat(
                f"The trees have {trees.forest + trees.boosting:,} nodes, conversion is limited to {self.max_nodes:,}.",
                "Bound the trees with max_depth or min_samples_leaf, or use histogram gradient boosting.",
            )
        return trees


class OnnxScorer:
    """Scores by ONNX Runtime: one thread, no spinning, about 10 µs on top of the graph for one row."""

    def __init__(self, data: bytes, signature: Signature) -> None:
        self.signature = signature
        self._session = _session(data)
        inputs = self._session.get_inputs()
        matrix = [each.name for each in inputs] == [MATRIX]
        self._matrix_dtype = _NUMPY[inputs[0].type] if matrix else None
        self._inputs = [] if matrix else [(each.name, signature.names.index(each.name), each.type) for each in inputs]
        wanted = 2 if signature.probabilities else 1
        self._outputs = [each.name for each in self._session.get_outputs()][:wanted]
        self._label_dtype = _label_dtype(signature)

    def score(self, rows: Rows) -> Scores:
        """Score columns by name, or a numeric matrix [rows, fields] in the order of the fields.

        Raises NotFound for a missing column, InvalidInput for values of another type or shape.
        """
        if self._matrix_dtype is not None and isinstance(rows, np.ndarray) and rows.ndim == 2:
            return self._run({MATRIX: np.ascontiguousarray(rows, dtype=self._matrix_dtype)}, len(rows))
        matrix = self._stacked(rows) if isinstance(rows, Mapping) else None
        if matrix is not None:
            return self._run({MATRIX: matrix}, len(matrix))
        return self._score_frame(select(self.signature, rows))

    def score_rows(self, rows: Sequence[Sequence[Any]]) -> Scores:
        """Score rows of values in the order of the fields; None is a missing value.

        Raises InvalidInput for values of another type, or too few or many of them.
        """
        try:
            if self._matrix_dtype is not None:
                return self._run({MATRIX: np.array(rows, dtype=self._matrix_dtype)}, len(rows))
            columns = list(zip(*rows, strict=True)) or [()] * len(self.signature.fields)
            return self._run(
                {name: _values(columns[position], kind) for name, position, kind in self._inputs}, len(rows)
            )
        except (TypeError, ValueError, IndexError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"These rows do not fit the model: {error}.", _order(self.signature)) from error

    def _stacked(self, columns: Columns) -> Matrix | None:
        """Stack columns of numbers without a frame in between, which would cost 170 µs; None when that is not safe."""
        names = self.signature.names
        if self._matrix_dtype is None or not all(name in columns for name in names):
            return None
        wanted = [columns[name] for name in names]
        if any(isinstance(value, str) for values in wanted for value in values[:1]):
            return None
        try:
            return np.ascontiguousarray(np.array(wanted, dtype=self._matrix_dtype).T)
        except (TypeError, ValueError):
            return None  # the frame says what is wrong, with the column's name

    def _score_frame(self, frame: pl.DataFrame) -> Scores:
        if self._matrix_dtype is not None:
            return self._run({MATRIX: to_matrix(self.signature, frame, self._matrix_dtype)}, frame.height)
        return self._run({name: _column(frame[name], kind) for name, _, kind in self._inputs}, frame.height)

    def _run(self, feed: dict[str, Matrix], rows: int) -> Scores:
        if not rows:
            return self._nothing()
        try:
            answer = self._session.run(self._outputs, feed)
        except Exception as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feed.items())
            raise InvalidInput(f"ONNX Runtime refused {shapes}: {error}", _order(self.signature)) from error
        prediction = answer[0].reshape(-1)
        if self._label_dtype is not None:
            prediction = prediction.astype(self._label_dtype)
        return Scores(prediction, answer[1] if len(answer) > 1 else None)

    def _nothing(self) -> Scores:
        classes = self.signature.classes
        empty = np.empty((0, len(classes))) if classes and self.signature.probabilities else None
        return Scores(np.asarray(classes or [0.0])[:0], empty)


def _layouts(model: Model, *, doubles: bool) -> list[Layout]:
    """Return what to try, in order."""
    if model.signature.numeric and not _selects_columns(model.estimator):
        layouts = [Layout(matrix=True, floats=np.float32, ints=np.float32)]
        return [*layouts, Layout(matrix=True, floats=np.float64, ints=np.float64)] if doubles else layouts
    layouts = [Layout(matrix=False, floats=np.float32, ints=ints) for ints in (np.int64, np.float32)]
    return [*layouts, Layout(matrix=False, floats=np.float64, ints=np.int64)] if doubles else layouts


def _selects_columns(estimator: Any) -> bool:
    from sklearn.base import BaseEstimator
    from sklearn.compose import ColumnTransformer

    if not isinstance(estimator, BaseEstimator):
        return False
    parts = [estimator, *estimator.get_params(deep=True).values()]
    return any(isinstance(part, ColumnTransformer) for part in parts)


def _convert(model: Model, layout: Layout) -> bytes:
    types = _initial_types(model.signature, layout)
    try:
        with warnings.catch_warnings():
            # protobuf 6 warns once per tree that skl2onnx passes booleans for integers; the result is right.
            warnings.simplefilter("ignore")
            graph = _graph(model, types)
            if layout.floats is np.float64:
                round_before_trees(graph)
            data: bytes = graph.SerializeToString(deterministic=True)
    except Exception as error:
        raise UnsupportedFormat(
            f"skl2onnx cannot convert {class_path(model.estimator)}: {_first_line(error)}",
            "The native format is kept instead; scoring works, one row costs about a millisecond.",
        ) from error
    return data


def _graph(model: Model, types: list[tuple[str, Any]]) -> Any:
    from skl2onnx import to_onnx

    if model.signature.task == "regression":
        return to_onnx(model.estimator, initial_types=types, name="tidewheel")
    try:
        return to_onnx(model.estimator, initial_types=types, options={"zipmap": False}, name="tidewheel")
    except NameError:  # skl2onnx's answer for classifiers that have no such option, LinearSVC for one
        return to_onnx(model.estimator, initial_types=types, name="tidewheel")


def _initial_types(signature: Signature, layout: Layout) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

    tensors: dict[Number, Any] = {np.float32: FloatTensorType, np.float64: DoubleTensorType, np.int64: Int64TensorType}
    if layout.matrix:
        return [(MATRIX, tensors[layout.floats]([None, len(signature.fields)]))]

    def tensor(field: Field) -> Any:
        if field.kind == "string":
            return StringTensorType([None, 1])
        return tensors[layout.floats if field.kind == "float" or field.nullable else layout.ints]([None, 1])

    return [(field.name, tensor(field)) for field in signature.fields]


def _session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UnsupportedFormat(
            f"ONNX Runtime {onnxruntime.__version__} cannot run this model: {_first_line(error)}",
            "Install the onnxruntime of the bundle's lock, or save the bundle again with this installation.",
        ) from error


def _column(column: pl.Series, kind: str) -> Matrix:
    if kind == "tensor(string)":
        return _values(column.to_list(), kind)
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Int64)
    return column.to_numpy().astype(_NUMPY[kind]).reshape(-1, 1)


def _values(values: Sequence[Any], kind: str) -> Matrix:
    if kind == "tensor(string)":
        return np.array([["" if value is None else value] for value in values], dtype=object)
    return np.array(values, dtype=_NUMPY[kind]).reshape(-1, 1)


def _label_dtype(signature: Signature) -> np.dtype[Any] | None:
    """Return what ONNX labels (int64 or text) must be cast to, None when they are right already."""
    if signature.classes is None:
        return None
    dtype = np.asarray(signature.classes).dtype
    return None if dtype.kind in "iuUO" else dtype


def _order(signature: Signature) -> str:
    return f"Give one value per field, in this order: {', '.join(signature.names)}."


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
