"""PyTorch networks: what one answers, and how it takes rows of a table."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput, MissingExtra
from tidewheel.models.frames import Adapter
from tidewheel.models.outputs import read_outputs
from tidewheel.models.scorer import Matrix, Scores
from tidewheel.models.signature import Signature, Task, to_matrix

_TYPES: dict[str, type[np.generic]] = {"float32": np.float32, "float64": np.float64, "int64": np.int64}
_LAST = {"Sigmoid": "probabilities", "Softmax": "probabilities", "LogSoftmax": "log_probabilities"}


def is_network(estimator: object) -> bool:
    """Whether it is a PyTorch module; PyTorch is not imported to find out.

    >>> is_network(3)
    False
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(estimator, torch.nn.Module)


def is_tensor(value: object) -> bool:
    """Whether it is a PyTorch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def tensor_rows(example: Any) -> tuple[Any, list[int], str]:
    """Return an example as flat rows, the shape of one row where it is not flat, and the type of tensor it stands for.

    Frames and arrays of Python's floats stand for float32, which networks are made of.
    """
    if is_tensor(example):
        example = example.detach().cpu().numpy()
        dtype = str(example.dtype)
    else:
        dtype = str(example.dtype) if isinstance(example, np.ndarray) and example.dtype == np.int64 else "float32"
    if dtype not in _TYPES:
        dtype = "int64" if np.issubdtype(example.dtype, np.integer) else "float32"
    shape: list[int] = []
    if isinstance(example, np.ndarray) and example.ndim > 2:
        shape = [int(size) for size in example.shape[1:]]
        example = example.reshape(len(example), -1)
    if isinstance(example, np.ndarray) and example.ndim == 1:
        raise InvalidInput(
            f"An example of shape {tuple(example.shape)} has no columns.", "Give rows: [rows, columns] or more axes."
        )
    return example, shape, dtype


def check_network(net: Any) -> None:
    """Refuse a network in training mode, whose dropout and batch norm answer otherwise every time."""
    if net.training:
        raise InvalidInput(
            f"This {type(net).__name__} is in training mode, in which dropout and batch norm are at work.",
            "Call net.eval() before Model(...).",
        )


def run_network(net: Any, matrix: Matrix, shape: list[int]) -> Matrix:
    """Return the raw output of a network on flat rows.

    Raises InvalidInput, with the shapes, when the rows do not fit or it answers with more than one tensor.
    """
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(matrix)).reshape(len(matrix), *(shape or matrix.shape[1:]))
    try:
        with torch.inference_mode():
            answer = net(rows)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise InvalidInput(
            f"{type(net).__name__} cannot score rows of shape {tuple(rows.shape)}, {rows.dtype}: {_first_line(error)}",
            "Give the example as the network takes it; rows of several axes as a tensor [rows, ...].",
        ) from error
    if not isinstance(answer, torch.Tensor):
        raise InvalidInput(
            f"{type(net).__name__} answers with {type(answer).__name__}, not with one tensor.",
            "Wrap it in a module that returns the tensor to predict from.",
        )
    raw: Matrix = answer.detach().cpu().numpy()
    return raw


def to_tensor(signature: Signature, frame: pl.DataFrame, dtype: str) -> Matrix:
    """Return columns as the flat matrix a network takes.

    Raises InvalidInput for text, and for missing values where the network takes whole numbers.
    """
    if not signature.numeric:
        names = [field.name for field in signature.fields if field.kind in ("string", "datetime")]
        raise InvalidInput(
            f"A network takes numbers, these columns hold others: {', '.join(names)}.",
            "Encode them before the network.",
        )
    matrix = to_matrix(signature, frame)
    if dtype == "int64" and np.isnan(matrix).any():
        raise InvalidInput("The network takes whole numbers, and some values are missing.", "Fill them before it.")
    return matrix.astype(_TYPES[dtype or "float32"])


def infer_output(net: Any, raw: Matrix, task: Task | None) -> str:
    """Tell what a network's output is: by its last layer, else by task and shape.

    One column without a sigmoid is a number, unless the task says binary: then it is a logit. Several columns are
    probabilities when a softmax made them, logits otherwise.
    """
    if task == "regression":
        return "numbers"
    last = [module for module in net.modules() if not list(module.children())]
    known = _LAST.get(type(last[-1]).__name__, "") if last else ""
    width = 1 if raw.ndim == 1 else int(raw.shape[-1])
    if known and (width > 1 or known == "probabilities"):
        return known
    if width == 1 and task is None:
        return "numbers"
    return "probabilities" if width > 1 and _are_probabilities(raw) else "logits"


def ask_network(net: Any, frame: pl.DataFrame, signature: Signature, adapter: Adapter) -> Scores:
    """Score a frame by the network itself."""
    classes = signature.classes
    if not frame.height:
        empty = np.empty((0, len(classes))) if classes and signature.probabilities else None
        return Scores(np.asarray(classes or [0.0])[:0], empty)
    raw = run_network(net, to_tensor(signature, frame, adapter.dtype), adapter.shape)
    return read_outputs(raw, adapter.output, classes)


def import_torch() -> Any:
    """Return the torch package; MissingExtra when it is absent."""
    try:
        import torch
    except ImportError as error:
        missing = MissingExtra("torch", "torch")
        # The extra leaves torch out: which of its builds (CPU, CUDA) fits, the machine decides.
        missing.mend = "Install the build of torch that fits the machine, then: pip install 'tidewheel[torch]'"
        raise missing from error
    return torch


def _are_probabilities(raw: Matrix) -> bool:
    return bool((raw >= 0).all() and np.allclose(raw.sum(axis=-1), 1.0, atol=1e-4))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
