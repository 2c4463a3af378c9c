"""tidewheel: continuous training that a team installs with one command and that closes the loop by itself.

The face holds a dozen names and imports nothing until one is touched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidewheel import triggers
    from tidewheel.evaluation import gates
    from tidewheel.loop.loop import Loop
    from tidewheel.models.model import Model
    from tidewheel.pipelines.approving import approve
    from tidewheel.pipelines.handle import value
    from tidewheel.pipelines.inputs import champion, latest, window
    from tidewheel.pipelines.pipeline import pipeline
    from tidewheel.pipelines.secrets import secret
    from tidewheel.pipelines.step import step
    from tidewheel.project import load
    from tidewheel.project import open_app as open  # noqa: A004 - read as tidewheel.open
    from tidewheel.rollout import rollouts

__version__ = "0.1.0"

_NAMES = {
    "Loop": ("tidewheel.loop.loop", "Loop"),
    "Model": ("tidewheel.models.model", "Model"),
    "approve": ("tidewheel.pipelines.approving", "approve"),
    "champion": ("tidewheel.pipelines.inputs", "champion"),
    "gates": ("tidewheel.evaluation.gates", ""),
    "latest": ("tidewheel.pipelines.inputs", "latest"),
    "load": ("tidewheel.project", "load"),
    "open": ("tidewheel.project", "open_app"),
    "pipeline": ("tidewheel.pipelines.pipeline", "pipeline"),
    "rollouts": ("tidewheel.rollout.rollouts", ""),
    "secret": ("tidewheel.pipelines.secrets", "secret"),
    "step": ("tidewheel.pipelines.step", "step"),
    "triggers": ("tidewheel.triggers", ""),
    "value": ("tidewheel.pipelines.handle", "value"),
    "window": ("tidewheel.pipelines.inputs", "window"),
}

__all__ = [
    "Loop",
    "Model",
    "approve",
    "champion",
    "gates",
    "latest",
    "load",
    "open",
    "pipeline",
    "rollouts",
    "secret",
    "step",
    "triggers",
    "value",
    "window",
]


def __getattr__(name: str) -> Any:
    """Import the defining file of a public name when it is first touched."""
    if name not in _NAMES:
        raise AttributeError(f"module 'tidewheel' has no attribute {name!r}; it has {', '.join(sorted(_NAMES))}")
    file, attribute = _NAMES[name]
    module = import_module(file)
    return getattr(module, attribute) if attribute else module


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_NAMES)
