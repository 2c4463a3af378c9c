"""JSON Schemas of what a model takes and answers, and examples that work, from its signature and golden samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidewheel.models.signature import Field, Signature
from tidewheel.serving.arms import Arm, Deployed
from tidewheel.serving.ask import MAX_ID, MAX_ROWS
from tidewheel.serving.binary import DATATYPES
from tidewheel.serving.outputs import DATATYPES as OF_KIND
from tidewheel.serving.outputs import PREDICT, PROBABILITIES
from tidewheel.serving.problems import FLOAT_LIMIT, INT_LIMIT

Schema = dict[str, Any]

ID: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_ID, "pattern": "^[ -.0-~]+$"}
PARAMETERS: Schema = {"type": ["object", "null"], "description": "Come back in the answer."}
_TYPES: Mapping[str, Schema] = {
    "float": {"type": "number", "minimum": -FLOAT_LIMIT, "maximum": FLOAT_LIMIT},
    "int": {"type": "integer", "minimum": -INT_LIMIT - 1, "maximum": INT_LIMIT},
    "bool": {"type": "boolean"},
    "string": {"type": "string"},
    "datetime": {"type": "string", "format": "date-time"},
}
_PLAIN: Mapping[str, Any] = {
    "float": 0.5,
    "int": 1,
    "bool": True,
    "string": "text",
    "datetime": "2026-01-01T00:00:00",
}


def example_values(arm: Arm) -> list[Any]:
    """Return the values of one row: a golden sample, else the middle of what training saw."""
    return list(arm.golden[0]) if arm.golden else [_middle(field) for field in arm.signature.fields]


def example_row(deployed: Deployed) -> dict[str, Any]:
    """Return a row that the champion answers."""
    champion = deployed.champion
    return dict(zip(champion.signature.names, example_values(champion), strict=True))


def row_schema(deployed: Deployed) -> Schema:
    """Return what one row must look like. Ranges and categories of training are told, not demanded."""
    required, extra = deployed.rows.fields, deployed.rows.extra
    examples = example_row(deployed)
    properties = {field.name: _field_schema(field, examples.get(field.name)) for field in (*required, *extra)}
    return {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in required],
        "additionalProperties": False,
    }


def rows_schema(row: str) -> Schema:
    """Return the body of /predict, given the reference of its row."""
    reference = {"$ref": row}
    many = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": reference, "minItems": 1, "description": f"At most {MAX_ROWS:,}."},
            "id": {**ID, "type": ["string", "null"], "description": "Request id; outcomes name rows by it."},
            "unit": {"type": ["string", "integer", "null"], "description": "Who is kept on one arm of a rollout."},
        },
        "required": ["rows"],
        "additionalProperties": False,
    }
    return {"anyOf": [many, reference]}


def answer_schema(signature: Signature) -> Schema:
    """Return the answer of /predict."""
    label = {"type": _label_types(signature)}
    properties: Schema = {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "version": {"type": ["integer", "string"]},
        "arm": {"type": "string"},
        "predictions": {"type": "array", "items": label},
        "notes": {"type": "array", "items": {"type": "string"}, "description": "What was odd but allowed."},
    }
    if signature.probabilities:
        numbers = {"type": "array", "items": {"type": "number"}}
        properties["probabilities"] = {"type": "array", "items": numbers}
        properties["classes"] = {"type": "array", "items": label}
    return {"type": "object", "properties": properties, "required": ["id", "model", "version", "arm", "predictions"]}


def tensor_schema() -> Schema:
    """Return one tensor of a request or an answer."""
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string", "enum": list(DATATYPES)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array", "description": "Flat in row-major order, or nested; absent for raw tensors."},
            "parameters": PARAMETERS,
        },
        "required": ["name", "datatype", "shape"],
    }


def infer_schema(tensor: str) -> Schema:
    """Return the body of an inference request, given the reference of a tensor."""
    output = {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": [PREDICT, PROBABILITIES]}, "parameters": PARAMETERS},
        "required": ["name"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {**ID, "type": ["string", "null"]},
            "inputs": {"type": "array", "items": {"$ref": tensor}, "minItems": 1},
            "outputs": {"type": ["array", "null"], "items": output},
            "parameters": PARAMETERS,
        },
        "required": ["inputs"],
    }


def inferred_schema(tensor: str) -> Schema:
    """Return the answer to an inference request, given the reference of a tensor."""
    return {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": {"$ref": tensor}},
        },
        "required": ["model_name", "model_version", "id", "outputs"],
    }


def example_infer(deployed: Deployed) -> dict[str, Any]:
    """Return an inference request that is answered: one tensor per column."""
    champion = deployed.champion
    pairs = zip(champion.signature.fields, example_values(champion), strict=True)
    inputs = [
        {"name": field.name, "datatype": OF_KIND[field.kind], "shape": [1], "data": [value]} for field, value in pairs
    ]
    return {"inputs": inputs}


def invocation_schema() -> Schema:
    """Return the JSON bodies of /invocations."""
    table = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "data": {"type": "array", "items": {"type": "array"}},
        },
        "required": ["columns", "data"],
    }
    shapes: Mapping[str, Schema] = {
        "dataframe_split": table,
        "dataframe_records": {"type": "array", "items": {"type": "object"}},
        "instances": {"type": "array"},
        "inputs": {"type": ["object", "array"]},
    }
    params: Schema = {"type": ["object", "null"]}
    return {
        "oneOf": [
            {"type": "object", "properties": {name: shape, "params": params}, "required": [name]}
            for name, shape in shapes.items()
        ]
    }


def example_invocations(deployed: Deployed) -> dict[str, Any]:
    """Return a body of /invocations in each of MLflow's shapes."""
    row = example_row(deployed)
    return {
        "dataframe_split": {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
        "dataframe_records": {"dataframe_records": [row]},
        "instances": {"instances": [row]},
        "inputs": {"inputs": {name: [value] for name, value in row.items()}},
    }


def example_csv(deployed: Deployed) -> str:
    """Return a body of /invocations as CSV."""
    import csv
    import io

    row, out = example_row(deployed), io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([list(row), list(row.values())])
    return out.getvalue()


def _field_schema(field: Field, example: Any) -> Schema:
    schema = dict(_TYPES[field.kind])
    if field.nullable:
        schema["type"] = [schema["type"], "null"]
    if field.low is not None and field.high is not None:
        schema["description"] = f"Training saw {field.low:.6g} to {field.high:.6g}."
        schema["x-training-range"] = [field.low, field.high]
    elif field.categories is not None:
        listed = ", ".join(field.categories[:8]) + (", ..." if len(field.categories) > 8 else "")
        schema["description"] = f"Training saw {listed}. Others are answered with a note."
        schema["x-training-categories"] = field.categories
    if example is not None or field.nullable:
        schema["examples"] = [example]
    return schema


def _label_types(signature: Signature) -> list[str]:
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return sorted({names[type(label)] for label in signature.classes or [0.5]})


def _middle(field: Field) -> Any:
    if field.categories:
        return field.categories[0]
    if field.kind in ("float", "int") and field.low is not None and field.high is not None:
        middle = field.low / 2 + field.high / 2
        return round(middle) if field.kind == "int" else round(middle, 6)
    return _PLAIN[field.kind]


def names_of(models: Sequence[str]) -> dict[str, str]:
    """Return a name for each model that may stand in a reference.

    >>> names_of(["bikes", "a/b", "a b"])
    {'bikes': 'bikes', 'a/b': 'a_b', 'a b': 'a_b_2'}
    """
    found: dict[str, str] = {}
    for model in models:
        plain = "".join(sign if sign.isascii() and (sign.isalnum() or sign in ".-_") else "_" for sign in model)
        name, number = plain, 1
        while name in found.values():
            number += 1
            name = f"{plain}_{number}"
        found[model] = name
    return found
