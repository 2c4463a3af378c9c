"""Boosters and networks as ONNX graphs that take rows and answer like every other graph here: label, probabilities."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tidewheel.errors import MissingExtra, UnsupportedFormat
from tidewheel.models.boosters import booster_of, dump_booster, library_of, load_booster
from tidewheel.models.estimator import class_path
from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.networks import import_torch
from tidewheel.models.signature import Field, Label, Signature

MATRIX = "rows"  # the one input of a model whose columns are all numbers
_CODES = "codes"


def booster_graph(model: Model) -> bytes:
    """Convert a booster with onnxmltools; categories are looked up inside the graph.

    Raises UnsupportedFormat, with the reason, for what onnxmltools cannot convert.
    """
    library = library_of(model.estimator)
    if model.adapter.output == "labels":
        raise UnsupportedFormat(
            f"{class_path(model.estimator)} answers with labels alone, which onnxmltools cannot convert.",
            "Fit it with multi:softprob or binary:logistic.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _converted(model, library == "lightgbm")
            if model.adapter.categories:
                _look_up_categories(graph, model.signature, model.adapter)
            if model.signature.classes is not None:
                name_labels(graph.graph, model.signature.classes)
            data: bytes = graph.SerializeToString(deterministic=True)
    except MissingExtra:
        raise
    except Exception as error:
        raise UnsupportedFormat(
            f"onnxmltools cannot convert {class_path(model.estimator)}: {_first_line(error)}",
            "The library's own file is kept instead.",
        ) from error
    return data


def network_graph(model: Model) -> bytes:
    """Convert a network with torch.onnx; softmax or sigmoid become part of the graph.

    Raises UnsupportedFormat, with the reason, for what torch.onnx cannot convert, MissingExtra without onnxscript.
    """
    torch = import_torch()
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it and says so less clearly
    except ImportError as error:
        raise MissingExtra("onnxscript", "torch") from error
    classes = model.signature.classes
    output = "variable" if classes is None else "probabilities"
    try:
        with warnings.catch_warnings(), _silent("torch.onnx"):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                answering(model),
                (network_input(model),),
                dynamo=True,
                verbose=False,
                input_names=[MATRIX],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            )
            graph = program.model_proto
            for value in (*graph.graph.input, *graph.graph.output):
                value.type.tensor_type.shape.dim[0].dim_param = "n"
            del graph.graph.value_info[:]
            _without_stories(graph)
            if classes is not None:
                name_labels(graph.graph, classes)
            data: bytes = graph.SerializeToString(deterministic=True)
    except Exception as error:
        raise UnsupportedFormat(
            f"torch.onnx cannot convert {class_path(model.estimator)}: {_first_line(error)}",
            "The exported program (.pt2) is kept instead.",
        ) from error
    return data


def network_input(model: Model) -> Any:
    """Return two rows of zeros as the network's flat input: shapes are traced with them."""
    torch = import_torch()
    dtype = {"float64": torch.float64, "int64": torch.int64}.get(model.adapter.dtype, torch.float32)
    return torch.zeros(2, len(model.signature.fields), dtype=dtype)


def answering(model: Model) -> Any:
    """Return a network that takes flat rows and answers with a number [n, 1] or probabilities [n, classes]."""
    torch = import_torch()
    net, shape, output = model.estimator, tuple(model.adapter.shape), model.adapter.output
    count = len(model.signature.classes or ())

    module: Any = torch.nn.Module

    class Answering(module):  # type: ignore[misc] # torch is an extra and unknown to mypy
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, rows: Any) -> Any:
            raw = self.net(rows.reshape(-1, *shape) if shape else rows)
            if not count:
                return raw.reshape(-1, 1)
            if count == 2 and (raw.dim() == 1 or raw.shape[1] == 1):
                second = raw.reshape(-1, 1)
                second = torch.sigmoid(second) if output == "logits" else second
                return torch.cat([1 - second, second], dim=1)
            if output == "logits":
                return torch.softmax(raw, dim=1)
            return torch.exp(raw) if output == "log_probabilities" else raw

    return Answering().eval()


def name_labels(graph: Any, classes: Sequence[Label]) -> None:
    """Let a graph that ends in `probabilities` answer with the label of the likeliest class first, in place."""
    from onnx import TensorProto, helper

    labels = np.asarray(classes)
    kind, values = TensorProto.INT64, labels
    if labels.dtype.kind == "U":
        kind, values = TensorProto.STRING, np.asarray([str(label).encode() for label in classes], dtype=object)
    elif labels.dtype.kind == "f":
        kind = TensorProto.DOUBLE
    graph.initializer.append(helper.make_tensor("tidewheel_labels", kind, [len(classes)], values.tolist()))
    graph.node.append(helper.make_node("ArgMax", ["probabilities"], ["tidewheel_likeliest"], axis=1, keepdims=0))
    graph.node.append(helper.make_node("Gather", ["tidewheel_labels", "tidewheel_likeliest"], ["tidewheel_label"]))
    kept = [each for each in graph.output if each.name == "probabilities"]
    del graph.output[:]
    graph.output.extend([helper.make_tensor_value_info("tidewheel_label", kind, ["n"]), *kept])


def _converted(model: Model, lightgbm: bool) -> Any:  # noqa: FBT001 - the two converters take different words
    try:
        from onnxmltools import convert_lightgbm, convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType
    except ImportError as error:
        raise MissingExtra("onnxmltools", "lightgbm" if lightgbm else "xgboost") from error
    name = _CODES if model.adapter.categories else MATRIX
    types = [(name, FloatTensorType([None, len(model.signature.fields)]))]
    if lightgbm:
        copy = load_booster("lightgbm", dump_booster(model.estimator))
        return convert_lightgbm(copy, initial_types=types, zipmap=False, name="tidewheel")
    booster = booster_of(model.estimator)
    if "c" in (booster.feature_types or []):
        raise UnsupportedFormat("onnxmltools drops XGBoost's splits by category.", "Its own file is kept instead.")
    copy = load_booster("xgboost", dump_booster(model.estimator))
    copy.feature_names = None  # the converter takes f0, f1 ... alone
    return convert_xgboost(copy, initial_types=types, name="tidewheel")


def _look_up_categories(model: Any, signature: Signature, adapter: Adapter) -> None:
    """Put one input per column before a graph that takes codes; levels become their codes, unknown ones NaN."""
    from onnx import TensorProto, helper

    for opset in model.opset_import:
        if opset.domain == "ai.onnx.ml":
            opset.version = max(opset.version, 2)  # looking up numbers, and numbers of text, came with 2
    graph = model.graph
    nodes, inputs, columns = [], [], []
    for position, field in enumerate(signature.fields):
        kind = TensorProto.STRING if field.kind == "string" else TensorProto.FLOAT
        inputs.append(helper.make_tensor_value_info(field.name, kind, ["n", 1]))
        levels = adapter.categories.get(field.name)
        columns.append(field.name if levels is None else f"tidewheel_code_{position}")
        if levels is not None:
            nodes.append(_encoder(field, levels, columns[-1]))
    nodes.append(helper.make_node("Concat", columns, [_CODES], axis=1))
    rest = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *rest])
    graph.input.extend(inputs)


def _encoder(field: Field, levels: Sequence[str], output: str) -> Any:
    from onnx import helper

    codes = [float(code) for code in range(len(levels))]
    if field.kind == "string":
        keys: dict[str, Any] = {"keys_strings": [level.encode() for level in levels]}
    else:
        keys = {"keys_floats": [float(level == "True") if field.kind == "bool" else float(level) for level in levels]}
    return helper.make_node(
        "LabelEncoder",
        [field.name],
        [output],
        domain="ai.onnx.ml",
        **keys,
        values_floats=codes,
        default_float=float("nan"),
    )


def _without_stories(graph: Any) -> None:
    """Drop what torch.onnx writes about itself: stack traces with paths of this machine among it."""
    del graph.metadata_props[:], graph.graph.metadata_props[:]
    graph.doc_string = graph.graph.doc_string = ""
    for part in (*graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Hold back what torch.onnx logs of packages that are not there and nobody asked for."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
