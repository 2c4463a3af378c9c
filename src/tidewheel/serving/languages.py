"""The languages that requests come in and answers go out in: JSON rows, Open Inference tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from tidewheel.predictions.records import ANSWERED
from tidewheel.serving.arms import Answer, Arm, Deployed
from tidewheel.serving.ask import Ask, Caller
from tidewheel.serving.binary import HEADER_LENGTH, detach
from tidewheel.serving.messages import PROTOBUF, RAW, decode_message, encode_message
from tidewheel.serving.outputs import Inferred, answer_tensors, check_outputs
from tidewheel.serving.response import JSON, Header, Response

OCTETS: Header = (b"content-type", b"application/octet-stream")

_encode = msgspec.json.Encoder().encode


class Served(msgspec.Struct, gc=False):
    """Who answered, and what. Positional, because one is built per request."""

    arm: Arm  # the version that answered
    label: str  # what the caller is told: champion, challenger or fallback
    answer: Answer  # what it said


class Language(Protocol):
    """How one kind of request is read and answered; holds no state."""

    def decode(self, deployed: Deployed, arm: Arm, headers: Sequence[Header], body: bytes, caller: Caller) -> Ask:
        """Return the request of a body; `arm` is the version that it may ask outputs of. Raises a TidewheelError."""
        ...

    def encode(self, model: str, ask: Ask, served: Served) -> Response:
        """Return the answer."""
        ...


class Predicted(msgspec.Struct, gc=False, kw_only=True):
    """The answer of /predict."""

    id: str  # request id; outcomes name rows by it
    model: str  # model name
    version: str | int  # model version that answered
    arm: str  # champion or challenger; fallback: the champion, because the challenger failed
    predictions: list[Any]  # one per row
    probabilities: list[list[float]] | UnsetType = UNSET  # [row][class]
    classes: list[Any] | UnsetType = UNSET  # in the order of the probabilities
    notes: list[str] | UnsetType = UNSET  # what was odd but allowed


class _Rows:
    """`POST /predict/{model}`: rows as JSON objects."""

    def decode(self, deployed: Deployed, arm: Arm, headers: Sequence[Header], body: bytes, caller: Caller) -> Ask:
        """Return the request of a body."""
        del arm, headers
        return deployed.rows.decode(body, caller)

    def encode(self, model: str, ask: Ask, served: Served) -> Response:
        """Return the answer."""
        arm, answer = served.arm, served.answer
        content = Predicted(id=ask.id, model=model, version=arm.version, arm=served.label, predictions=answer.output)
        if answer.probability is not None:
            content.probabilities = answer.probability
            content.classes = arm.signature.classes or []
        if ask.notes:
            content.notes = ask.notes
        return Response(ANSWERED, (JSON, (b"x-request-id", ask.echo)), _encode(content))


class _Tensors:
    """`POST /v2/models/{model}[/versions/{version}]/infer`: tensors as JSON, raw bytes behind it, or protobuf."""

    def decode(self, deployed: Deployed, arm: Arm, headers: Sequence[Header], body: bytes, caller: Caller) -> Ask:
        """Return the request of a body."""
        if PROTOBUF in headers:
            ask = decode_message(deployed.tensors, body, caller)
        else:
            ask = deployed.tensors.decode(body, caller, headers)
        if ask.wanted is not None:
            check_outputs(ask.wanted, arm.signature)
        return ask

    def encode(self, model: str, ask: Ask, served: Served) -> Response:
        """Return the answer."""
        arm, answer = served.arm, served.answer
        parameters = {**(ask.parameters or {}), "arm": served.label}
        if ask.notes:
            parameters["notes"] = ask.notes
        tensors = answer_tensors(ask.wanted, arm.signature, answer.output, answer.probability)
        content = Inferred(
            model_name=model, model_version=str(arm.version), id=ask.id, parameters=parameters, outputs=tensors
        )
        echo = (b"x-request-id", ask.echo)
        if ask.wire:
            return Response(ANSWERED, (PROTOBUF, echo), encode_message(content, raw=ask.wire == RAW))
        if not ask.raw:
            return Response(ANSWERED, (JSON, echo), _encode(content))
        blobs = [detach(tensor) for tensor in tensors if tensor["name"] in ask.raw]
        text = _encode(content)
        length = (HEADER_LENGTH, b"%d" % len(text))
        return Response(ANSWERED, (OCTETS, length, echo), b"".join((text, *blobs)))


ROWS: Language = _Rows()
TENSORS: Language = _Tensors()
