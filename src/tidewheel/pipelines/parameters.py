"""Parameters of a run: checked against the pipeline's signature, text read as the types it names."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.wish import Input

_NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def bind(pipeline: Pipeline[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters by name, defaults filled in.

    A text for a parameter of another type is read as that type: "8" for an int, "true" for a bool, JSON for lists
    and dicts, the name of a dataset for a Polars frame.

    Raises NotFound for an unknown parameter (near names are suggested), InvalidInput for a missing one or a text
    that cannot be read.
    """
    declared = pipeline.signature.parameters
    known = {name: item for name, item in declared.items() if item.kind in _NAMED}
    open_ended = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in declared.values())
    for name in parameters:
        if name not in known and not open_ended:
            raise NotFound(f"parameter of {pipeline.name}", name, known)
    hints = _hints(pipeline)
    bound: dict[str, Any] = {}
    for name, item in known.items():
        if name in parameters:
            bound[name] = _read(pipeline, name, parameters[name], hints.get(name, Any))
        elif item.default is inspect.Parameter.empty:
            raise InvalidInput(
                f"The pipeline {pipeline.name}{pipeline.signature} needs the parameter {name!r}.",
                f"Give it: --param {name}=... on the command line, {{{name!r}: ...}} in Python.",
            )
        else:
            bound[name] = item.default
    return bound | {name: value for name, value in parameters.items() if name not in known}


def call(pipeline: Pipeline[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Execute the body with arguments by name."""
    positional = [
        arguments[name]
        for name, item in pipeline.signature.parameters.items()
        if item.kind is inspect.Parameter.POSITIONAL_ONLY
    ]
    named = {
        name: value
        for name, value in arguments.items()
        if name not in pipeline.signature.parameters
        or pipeline.signature.parameters[name].kind is not inspect.Parameter.POSITIONAL_ONLY
    }
    return pipeline.__wrapped__(*positional, **named)


def _hints(pipeline: Pipeline[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, annotation in pipeline.__wrapped__.__annotations__.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found |= typing.get_type_hints(holder, globalns=pipeline.__wrapped__.__globals__)
        except (NameError, TypeError, AttributeError, SyntaxError):
            continue  # a name that exists for type checkers only: text stays text
    return found


def _read(pipeline: Pipeline[..., Any], name: str, given: Any, wanted: Any) -> Any:
    if type(given) is not str or wanted in (Any, str, object) or str in typing.get_args(wanted):
        return given
    if wanted is Path:
        return Path(given)
    if getattr(wanted, "__module__", "").partition(".")[0] == "polars":
        return Input(kind="dataset", name=given)
    import msgspec

    try:
        if typing.get_origin(wanted) in (list, dict, tuple, set, frozenset):
            return msgspec.json.decode(given, type=wanted)
        return msgspec.convert(given, wanted, strict=False)
    except (msgspec.MsgspecError, TypeError) as error:
        shown = wanted.__name__ if isinstance(wanted, type) else str(wanted)
        raise InvalidInput(
            f"The parameter {name}={given!r} of {pipeline.name} is not {shown}: {error}.",
            f"Give a value that can be read as {shown}.",
        ) from error
