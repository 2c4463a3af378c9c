"""Parameters of a run: checked against the pipeline's signature, text read as the types it names."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.handle import sources_in
from tidewheel.pipelines.identity import check_body
from tidewheel.pipelines.matching import mismatch, type_name
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.shape import hints_of
from tidewheel.pipelines.wish import Input

_NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def bind(pipeline: Pipeline[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters by name, defaults filled in, before anything is executed.

    A text for a parameter of another type is read as that type: "8" for an int, "true" for a bool, JSON for lists,
    dicts and dataclasses, the name of a dataset for a Polars frame. What a file gives is made into what the hint says:
    a table into a dataclass, a list into a tuple.

    Raises NotFound for an unknown parameter (near names are suggested), InvalidInput for a missing one, a value of
    another type, one that waits in another run, and a body that asks `is None` about a value that waits.
    """
    check_body(pipeline.__wrapped__, pipeline.name)
    declared = pipeline.signature.parameters
    known = {name: item for name, item in declared.items() if item.kind in _NAMED}
    open_ended = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in declared.values())
    for name, given in parameters.items():
        if name not in known and not open_ended:
            raise NotFound(f"parameter of {pipeline.name}", name, known)
        _refuse_handles(pipeline, name, given)
    hints = hints_of(pipeline.__wrapped__)
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


def _refuse_handles(pipeline: Pipeline[..., Any], name: str, given: Any) -> None:
    try:
        waiting = sources_in(given)
    except InvalidInput as error:
        raise InvalidInput(f"The parameter {name} of {pipeline.name}: {error.what}", error.mend) from error
    if waiting:
        raise InvalidInput(
            f"The parameter {name} of {pipeline.name} holds a value that waits in another run.",
            f"Give the value itself: {name}=tidewheel.value(...), or the output of that run.",
        )


def _read(pipeline: Pipeline[..., Any], name: str, given: Any, wanted: Any) -> Any:
    """Return a parameter as the type that it is declared to be."""
    if type(given) is Input:
        return given
    if type(given) is str:
        return _read_text(pipeline, name, given, wanted)
    if wanted is float and type(given) is int:
        return float(given)
    wrong = mismatch(given, wanted)
    if not wrong:
        return given
    try:
        import msgspec

        if isinstance(given, dict | list | str | int | float):
            return msgspec.convert(given, wanted)
    except (msgspec.MsgspecError, TypeError) as error:
        wrong = f"{wrong} ({error})" if isinstance(error, msgspec.ValidationError) else wrong
    raise InvalidInput(
        f"The parameter {name} of {pipeline.name} is of the wrong type: {wrong}.",
        f"Give a {type_name(wanted)}.",
    )


def _read_text(pipeline: Pipeline[..., Any], name: str, given: str, wanted: Any) -> Any:
    if wanted is Any and pipeline.signature.parameters[name].annotation is inspect.Parameter.empty:
        wanted = _by_default(pipeline, name, given)
    if wanted in (Any, str, object) or str in typing.get_args(wanted) or not mismatch(given, wanted):
        return given
    if wanted is Path:
        return Path(given)
    if getattr(wanted, "__module__", "").partition(".")[0] == "polars":
        return Input(kind="dataset", name=given)
    import msgspec

    try:
        if typing.get_origin(wanted) in (list, dict, tuple, set, frozenset) or given[:1] == "{":
            return msgspec.json.decode(given, type=wanted)
        return msgspec.convert(given, wanted, strict=False)
    except (msgspec.MsgspecError, TypeError) as error:
        shown = type_name(wanted)
        raise InvalidInput(
            f"The parameter {name}={given!r} of {pipeline.name} is not {shown}: {error}.",
            f"Give a value that can be read as {shown}.",
        ) from error


def _by_default(pipeline: Pipeline[..., Any], name: str, given: str) -> Any:
    """Return the type of a parameter without a hint, that of its default; raises InvalidInput for an unclear text."""
    default = pipeline.signature.parameters[name].default
    if default is not inspect.Parameter.empty and default is not None:
        return type(default) if type(default) in (bool, int, float, str) else Any
    try:
        meant = type_name(type(json.loads(given)))
    except ValueError:
        return str
    if meant == "str":
        return str
    raise InvalidInput(
        f"The parameter {name}={given!r} of {pipeline.name} has no type hint: it may be a text or a {meant}.",
        f"Write the hint: def {pipeline.name}({name}: {meant}, ...).",
    )
