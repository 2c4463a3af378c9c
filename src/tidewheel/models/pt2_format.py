"""PyTorch networks as exported programs (.pt2): the graph and its weights, without the Python class behind them."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from tidewheel.errors import MissingExtra, UnsupportedFormat
from tidewheel.models.estimator import class_path
from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.networks import import_torch, is_network
from tidewheel.models.signature import Signature

_PLAIN = (
    "data/weights/",
    "data/constants/",
    "data/sample_inputs/",
    "models/",
    "archive_",
    "byteorder",
    "version",
    ".data/",
)
_OBJECTS = ("custom_obj_", "opaque_obj_")  # torch.export unpickles these


class Pt2Format:
    """torch.export; scored by PyTorch, 65 µs for one row of a small network."""

    name = "pt2"

    def candidates(self, model: Model) -> Iterator[bytes]:
        """Yield one program; UnsupportedFormat for what is no network, or branches on its values in Python."""
        if not is_network(model.estimator):
            raise UnsupportedFormat(f"{class_path(model.estimator)} is no PyTorch network.", "Another format holds it.")
        yield dump_network(model)

    def load(self, data: bytes, *, signature: Signature, adapter: Adapter) -> Model:
        """Return a scorer; MissingExtra without PyTorch, UnsupportedFormat for other bytes or a pickle inside."""
        return Model.restored(load_network(data), signature=signature, adapter=adapter)


def dump_network(model: Model) -> bytes:
    """Return the network as a .pt2 file for any number of rows; the same network gives the same bytes.

    Raises UnsupportedFormat, with the reason, for a network that torch.export cannot trace.
    """
    torch = import_torch()
    shape = model.adapter.shape or [len(model.signature.fields)]
    dtype = {"float64": torch.float64, "int64": torch.int64}.get(model.adapter.dtype, torch.float32)
    out = io.BytesIO()
    try:
        with torch.no_grad():
            program = torch.export.export(
                model.estimator, (torch.zeros(2, *shape, dtype=dtype),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
            )
        _without_stories(program.graph)
        torch.export.save(program, out)
    except Exception as error:
        raise UnsupportedFormat(
            f"torch.export cannot hold {class_path(model.estimator)}: {_first_line(error)}",
            "Give Model(..., trust=True) to allow a pickle, or keep Python's if and for on values out of forward.",
        ) from error
    return out.getvalue()


def load_network(data: bytes) -> Any:
    """Return the network of a .pt2 file, ready to score.

    Raises MissingExtra without PyTorch, UnsupportedFormat for other bytes, and for a file that carries a pickle, which
    PyTorch would execute.
    """
    try:
        torch = import_torch()
        _refuse_pickles(data)
        program = torch.export.load(io.BytesIO(data))
        net = program.module()
    except (MissingExtra, UnsupportedFormat):
        raise
    except Exception as error:
        raise UnsupportedFormat(
            f"PyTorch cannot load this exported program: {_first_line(error)}",
            "Install the torch of the bundle's lock, or save the bundle again.",
        ) from error
    vars(net)["training"] = False  # an exported module refuses eval(): it has no other mode
    return net


def _refuse_pickles(data: bytes) -> None:
    """Refuse all but plain tensors: their index says whether they are pickled, and other files may be libraries."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            inside = name.partition("/")[2]
            known = inside.startswith(_PLAIN) and not inside.rpartition("/")[2].startswith(_OBJECTS)
            if not known or (inside.endswith("_config.json") and _pickled(json.loads(archive.read(name)))):
                raise UnsupportedFormat(
                    f"This exported program carries more than tensors ({name}), which may run code.",
                    "Save it again from a network of plain tensors.",
                )


def _pickled(node: Any) -> bool:
    if isinstance(node, dict):
        own = bool(node.get("use_pickle")) or str(node.get("path_name", "")).startswith(_OBJECTS)
        return own or any(_pickled(value) for value in node.values())
    return isinstance(node, list) and any(_pickled(item) for item in node)


def _without_stories(graph: Any) -> None:
    """Drop stack traces: they hold paths of this machine, and would make two equal networks differ."""
    for node in graph.nodes:
        for key in ("stack_trace", "source_fn_stack", "nn_module_stack"):
            with contextlib.suppress(KeyError):
                del node.meta[key]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
