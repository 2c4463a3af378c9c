"""What the server says it is, in the words of the Open Inference Protocol."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

EXTENSIONS = ("binary_tensor_data", "model_repository")


def server_metadata() -> dict[str, Any]:
    """Return the protocol's server metadata."""
    try:
        release = version("tidewheel")
    except PackageNotFoundError:  # run from a source tree that is not installed
        release = "unknown"
    return {"name": "tidewheel", "version": release, "extensions": list(EXTENSIONS)}
