"""The weights of a network alone, as safetensors: for who has the Python class and wants no graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, MissingExtra, UnsupportedFormat


def write_weights(net: Any, path: str | Path) -> Path:
    """Write the parameters and buffers of a PyTorch network; equal weights give equal bytes.

    Raises MissingExtra without safetensors.
    """
    place = Path(path)
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in sorted(net.state_dict().items())}
    place.write_bytes(_safetensors().save(tensors))
    return place


def read_weights(net: Any, path: str | Path) -> Any:
    """Fill a network of the same class with weights, and return it; no code of the file runs.

    Raises UnsupportedFormat for another file, InvalidInput, with the names, when the weights are of another network.
    """
    data = Path(path).read_bytes()
    try:
        tensors = _safetensors().load(data)
    except MissingExtra:
        raise
    except Exception as error:
        raise UnsupportedFormat(f"{path} holds no safetensors: {error}", "Name what write_weights wrote.") from error
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:300]
        raise InvalidInput(
            f"The weights of {path} do not fit {type(net).__name__}: {said}",
            "Build the network as it was when they were written.",
        ) from error
    return net


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise MissingExtra("safetensors", "torch") from error
    return safetensors.torch
