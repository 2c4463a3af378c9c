"""Models with what they expect and answer: flavours, forms, bundles, source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidewheel.models.mlflow_folder import read_mlflow, write_mlflow
    from tidewheel.models.pmml import export_pmml
    from tidewheel.models.sources import export_c, export_python
    from tidewheel.models.weights import read_weights, write_weights

_PLACES = {
    "export_c": "sources",
    "export_pmml": "pmml",
    "export_python": "sources",
    "read_mlflow": "mlflow_folder",
    "read_weights": "weights",
    "write_mlflow": "mlflow_folder",
    "write_weights": "weights",
}

__all__ = [
    "export_c",
    "export_pmml",
    "export_python",
    "read_mlflow",
    "read_weights",
    "write_mlflow",
    "write_weights",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
