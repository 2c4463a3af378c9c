# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""A pipeline with steps that want environments of their own."""

from __future__ import annotations

import sys

from tidewheel import pipeline, step

try:
    import deepwater  # type: ignore[import-not-found] # an environment may have it, the run's own has not
except ImportError:
    deepwater = None


@step(isolate="shallow.txt")
def depth(at: int) -> tuple[int, str]:
    """Return what the package of the environment says, and which Python said so."""
    import tidepool  # type: ignore[import-not-found] # its environment has it

    return tidepool.DEPTH + at, sys.prefix


@step(isolate="shallow.txt")
def sounding(at: int) -> int:
    """Return what a package says that only the environment has."""
    return at + (deepwater.DEPTH if deepwater else 0)


@step(isolate="script")
def bare() -> list[str]:
    """Return which of our own packages can be imported."""
    import importlib.util

    return [
        name for name in ("numpy", "polars", "sqlalchemy", "tidepool", "tidewheel") if importlib.util.find_spec(name)
    ]


@step(isolate="absent.txt")
def lost() -> int:
    """Ask for an environment that nothing describes."""
    return 1


@pipeline
def depths(at: int = 0) -> tuple[int, str]:
    """Measure."""
    return depth(at)


@pipeline
def soundings(at: int = 0) -> int:
    """Measure with what only the environment has."""
    return sounding(at)


@pipeline
def bareness() -> list[str]:
    """Look around."""
    return bare()


@pipeline
def loss() -> int:
    """Fail."""
    return lost()
