"""Outcomes: labels that callers bring for rows that were predicted before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from tidewheel.errors import InvalidInput, NotFound, TidewheelError, ValidationFailed
from tidewheel.models.signature import Signature
from tidewheel.predictions.records import Label, Outcome
from tidewheel.serving.ask import MAX_ID
from tidewheel.serving.problems import INT_LIMIT, parse
from tidewheel.serving.response import Problem
from tidewheel.serving.tensors import located

MAX_OUTCOMES = 100_000
ROW_DIGITS = 10  # characters that a row number may add to a request id

Brought = bool | Annotated[int, Meta(ge=-INT_LIMIT - 1, le=INT_LIMIT)] | float | str


class Named(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One outcome as a caller sends it."""

    id: Annotated[str, Meta(min_length=1, max_length=MAX_ID + ROW_DIGITS)]  # row id
    label: Brought  # what turned out to be true


class OutcomesBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body of POST /outcomes."""

    outcomes: Annotated[list[Named], Meta(min_length=1, max_length=MAX_OUTCOMES)]  # in any order
    model: str | None = None  # whose rows these are; may be left out when the server has one model


_KINDS: Mapping[type, str] = {bool: "a truth value", int: "a whole number", float: "a number", str: "text"}
_decoder = msgspec.json.Decoder(OutcomesBody)
_SHAPE = 'Send {"outcomes": [{"id": "...", "label": ...}, ...]}, with "model" where the server has several.'


def decode_outcomes(body: bytes) -> OutcomesBody:
    """Return the outcomes of a body.

    Raises InvalidInput for what is no JSON, with its position, ValidationFailed with the place that does not fit.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        content = parse(body)
        if isinstance(content, TidewheelError):
            raise content from error
        if not isinstance(error, msgspec.ValidationError):
            raise InvalidInput(f"The body cannot be read: {error}.", _SHAPE) from error
        raise ValidationFailed(str(error), _SHAPE, findings=located(error, "$", ()).findings) from error


def choose_model(named: str | None, served: Sequence[str]) -> str:
    """Return whose outcomes these are. Raises NotFound for an unknown name, InvalidInput when one must be given."""
    if named is not None:
        if named not in served:
            raise NotFound("model on this server", named, served)
        return named
    if len(served) != 1:
        listed = ", ".join(served) or "none yet"
        raise InvalidInput(
            f"Whose outcomes these are is not said; this server has several models or none: {listed}.",
            'Add "model": NAME beside "outcomes".',
        )
    return served[0]


def check_labels(outcomes: Sequence[Named], signature: Signature | None) -> list[Outcome]:
    """Return the outcomes, without times yet, with labels of the kind that the model predicts.

    Raises ValidationFailed with the first places (up to ten) whose label is of another kind. A class that training had
    not is allowed: the world has moved.
    """
    wanted = _wanted(signature)
    fitted: list[Outcome] = []
    problems: list[Problem] = []
    for place, outcome in enumerate(outcomes):
        label = _as_wanted(outcome.label, wanted)
        if label is None:
            what = f"the label {str(outcome.label)[:60]!r} is a {type(outcome.label).__name__}, {wanted} is predicted"
            problems.append(Problem(where=f"$.outcomes[{place}].label", what=what))
        else:
            fitted.append(Outcome(id=outcome.id, at=0, label=label))
    if problems:
        first = problems[0]
        raise ValidationFailed(
            f"{len(problems)} outcomes do not fit the model: {first.where}: {first.what}.",
            "Send labels of the kind the model was trained on; nothing of this request was kept.",
            findings=problems[:10],
        )
    return fitted


def _wanted(signature: Signature | None) -> str:
    if signature is None:
        return "a label"
    if signature.classes is None:
        return "a number"
    kinds = {type(label) for label in signature.classes}
    return _KINDS.get(kinds.pop(), "a label") if len(kinds) == 1 else "a label"


def _as_wanted(label: Label, wanted: str) -> Label | None:
    """Return the label as the wanted kind where it is that one, in other clothes at most; None otherwise."""
    if wanted == "a label":
        return label
    if wanted == "text":
        return label if isinstance(label, str) else None
    if isinstance(label, str):
        return None
    if wanted == "a truth value":
        return bool(label) if label in (0, 1) else None
    if isinstance(label, bool):
        return None
    if wanted == "a whole number":
        return int(label) if float(label).is_integer() else None
    return label
