"""What a model answers, as the Open Inference Protocol says it: metadata, and tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from tidewheel.errors import NotFound
from tidewheel.models.signature import Signature

DATATYPES: Mapping[str, str] = {"float": "FP64", "int": "INT64", "bool": "BOOL", "string": "BYTES", "datetime": "BYTES"}
PREDICT = "predict"
PROBABILITIES = "predict_proba"
ALL = frozenset((PREDICT, PROBABILITIES))


class Inferred(msgspec.Struct, gc=False, kw_only=True):
    """The answer of /v2/.../infer."""

    model_name: str  # model name
    model_version: str  # model version that answered
    id: str  # the caller's, else a new one
    parameters: dict[str, Any]  # the caller's, with arm and notes
    outputs: list[dict[str, Any]]  # tensors


def model_metadata(name: str, versions: Sequence[int], signature: Signature, platform: str) -> dict[str, Any]:
    """Return what the protocol's model metadata says: a tensor per column, or one matrix, in; predictions out."""
    inputs = [{"name": each.name, "datatype": DATATYPES[each.kind], "shape": [-1]} for each in signature.fields]
    outputs: list[dict[str, Any]] = [{"name": PREDICT, "datatype": answer_datatype(signature), "shape": [-1]}]
    if signature.probabilities and signature.classes:
        outputs.append({"name": PROBABILITIES, "datatype": "FP64", "shape": [-1, len(signature.classes)]})
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": platform,
        "inputs": inputs,
        "outputs": outputs,
    }


def answer_datatype(signature: Signature) -> str:
    """Return the datatype of the predictions."""
    kinds = {type(label) for label in signature.classes or [0.0]}
    if len(kinds) > 1:
        return "BYTES" if str in kinds else "FP64"
    return {bool: "BOOL", int: "INT64", str: "BYTES"}.get(kinds.pop(), "FP64")


def check_outputs(wanted: Sequence[str] | None, signature: Signature) -> None:
    """Refuse outputs that the model does not have, with NotFound."""
    have = [PREDICT, *([PROBABILITIES] if signature.probabilities else [])]
    for name in wanted or ():
        if name not in have:
            raise NotFound("output", name, have)


def answer_tensors(
    wanted: Sequence[str] | None, signature: Signature, output: Sequence[Any], probability: Sequence[Any] | None
) -> list[dict[str, Any]]:
    """Return the output tensors of an answer."""
    datatype = answer_datatype(signature)
    values = [str(value) for value in output] if datatype == "BYTES" else output
    tensors = [{"name": PREDICT, "datatype": datatype, "shape": [len(output)], "data": values}]
    if probability is not None:
        flat = list(chain.from_iterable(probability))
        shape = [len(output), len(flat) // max(len(output), 1)]
        tensors.append({"name": PROBABILITIES, "datatype": "FP64", "shape": shape, "data": flat})
    return tensors if wanted is None else [tensor for tensor in tensors if tensor["name"] in wanted]
