"""The cache key of a call: step, code closure and inputs by content, in parts that `why` can compare."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tidewheel.errors import Unhashable
from tidewheel.fingerprint.code import CodeDigest, code_digest
from tidewheel.fingerprint.value import Digested, value_digest
from tidewheel.pipelines.executors.seam import Held
from tidewheel.pipelines.nested import mapped
from tidewheel.pipelines.step import Step

FORMAT = 1  # raised when stored outputs of older keys can no longer be used
_SHOWN = 60  # characters of a scalar that are kept for people
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a call is answered by."""

    digest: str  # hexadecimal; equal keys mean equal calls
    code: CodeDigest  # the step's code closure
    besides: Mapping[str, str]  # digests of the files, modules, variables and environment that its options name
    inputs: Mapping[str, str]  # per argument a short digest, with the value where it is short
    reusable: bool  # whether another execution with this key may answer
    note: str  # why not, or a hint for the author; "" mostly


@dataclass(frozen=True, slots=True)
class _Code:
    """What one step's calls have in common."""

    closure: CodeDigest  # its code
    besides: Mapping[str, str]  # what its options name


class Keys:
    """Computes the keys of one run; code is read once per step, so one run means one code."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._codes: dict[Step[..., Any], _Code] = {}  # by the object: two closures of one function share a name

    def of(self, step: Step[..., Any], arguments: Mapping[str, Any], ordinal: int) -> Key:
        """Return the key of a call; one with an input that has no content is known by its place in the run.

        Raises InvalidInput when a file or module that the step's options name does not exist.
        """
        code = self._code(step)
        digests: dict[str, str] = {}
        note = ""
        for name, item in arguments.items():
            if name in step.options.ignore:
                continue
            try:
                digests[name] = value_digest(_by_digest(item))
            except Unhashable as error:
                note = f"not cached: argument {name!r}: {error.what}"
                digests[name] = ""
        parts: list[object] = [FORMAT, step.identity, code.closure.digest, digests]
        if code.besides:
            parts.append(dict(code.besides))
        if note:
            parts += [self._run_id, ordinal]
        return Key(
            digest=value_digest(parts),
            code=code.closure,
            besides=code.besides,
            inputs={name: _shown(arguments[name], digest) for name, digest in digests.items()},
            reusable=step.options.reusable and not note,
            note=note or _hint(arguments),
        )

    def _code(self, step: Step[..., Any]) -> _Code:
        found = self._codes.get(step)
        if found is None:
            found = self._codes[step] = _Code(code_digest(step), _besides(step))
        return found


def _besides(step: Step[..., Any]) -> Mapping[str, str]:
    """Digest what the options of a step add to its key; secrets and what only says where and how often do not count."""
    options = step.options
    if not (options.code or options.isolate or options.variables):
        return _NOTHING
    from tidewheel.fingerprint.besides import environment_digest, named_code

    found = named_code(step.__wrapped__, options.code)
    if options.isolate:
        found[f"environment {options.isolate}"] = environment_digest(step.__wrapped__, options.isolate)
    for name, text in sorted(options.variables.items()):
        found[f"variable {name}"] = value_digest(text)
    return found


def _by_digest(item: Any) -> Any:
    return mapped(item, (Held,), lambda held: Digested(held.given.content))


def _shown(item: Any, digest: str) -> str:
    if not digest:
        return f"a {type(item).__name__} without content"
    if isinstance(item, bool | int | float | str | None):
        text = repr(item)
        if len(text) <= _SHOWN:
            return text
    return digest[:16]


def _hint(arguments: Mapping[str, Any]) -> str:
    """Say when a text names a file: only a Path counts by the file's content."""
    for name, item in arguments.items():
        if type(item) is str and 0 < len(item) < 1024 and os.path.isfile(item):  # noqa: PTH113 - odd texts raise in Path
            return f"the text {name}={item!r} names a file; pass a pathlib.Path to have it count by content"
    return ""
