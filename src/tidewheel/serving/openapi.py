"""An OpenAPI 3.1 description of a server, made from the models that are live on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tidewheel.serving.arms import Deployed
from tidewheel.serving.endpoint import Endpoint
from tidewheel.serving.metadata import server_metadata
from tidewheel.serving.response import HTML, JSON, PLAIN, TEXT
from tidewheel.serving.schemas import (
    ID,
    Schema,
    answer_schema,
    example_csv,
    example_infer,
    example_invocations,
    example_row,
    infer_schema,
    inferred_schema,
    invocation_schema,
    names_of,
    row_schema,
    rows_schema,
    tensor_schema,
)

_OBJECT: Schema = {"type": "object"}
_TENSOR, _ERROR = "#/components/schemas/Tensor", "#/components/schemas/Error"
_WRONG: Mapping[str, str] = {
    "400": "The body cannot be read.",
    "401": "A key is needed, or the one shown is not known.",
    "403": "The key does not open this.",
    "404": "There is no such thing on this server.",
    "413": "The body is too large, or has too many rows.",
    "422": "The body does not fit; problems say where.",
    "429": "Too much work waits; retry-after says when to ask again.",
    "503": "Nothing is deployed yet.",
}
_HEADERS = [
    {
        "name": "x-request-id",
        "in": "header",
        "description": "Comes back; the id of the request, unless the body has one or it cannot name rows.",
        "schema": {"type": "string"},
    },
    {
        "name": "x-unit-id",
        "in": "header",
        "description": "Who is kept on one arm of a rollout.",
        "schema": {"type": "string"},
    },
]


def describe(endpoints: Mapping[str, Endpoint], *, keyed: bool = False) -> dict[str, Any]:
    """Return the description; `keyed` says whether requests need an API key."""
    live = {name: each.deployed for name, each in sorted(endpoints.items()) if each.deployed is not None}
    names = names_of(list(live))
    schemas: Schema = {"Tensor": tensor_schema(), "Error": _error_schema()}
    paths: dict[str, Any] = _general_paths(list(live))
    for model, deployed in live.items():
        name = names[model]
        schemas[f"{name}.Row"] = row_schema(deployed)
        schemas[f"{name}.Rows"] = rows_schema(f"#/components/schemas/{name}.Row")
        schemas[f"{name}.Answer"] = answer_schema(deployed.champion.signature)
        paths |= _model_paths(model, name, deployed)
    if len(live) == 1:
        ((model, deployed),) = live.items()
        paths["/invocations"] = {"post": _invocations(model, deployed, operation="invocations")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tidewheel serving",
            "version": server_metadata()["version"],
            "description": "Predictions by JSON rows, the Open Inference Protocol, and MLflow's /invocations.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{"bearer": []}, {"key": []}] if keyed else [{}],
    }


def _model_paths(model: str, name: str, deployed: Deployed) -> dict[str, Any]:
    path = quote(model, safe="/")
    rows = f"#/components/schemas/{name}.Rows"
    predict = _post(
        model,
        f"predict.{name}",
        f"Score rows with {model}.",
        _json_body({"$ref": rows}, rows={"rows": [example_row(deployed)]}, bare=example_row(deployed)),
        _ok({"$ref": f"#/components/schemas/{name}.Answer"}),
    )
    found: dict[str, Any] = {
        f"/predict/{path}": {"post": predict},
        f"/invocations/{path}": {"post": _invocations(model, deployed, operation=f"invocations.{name}")},
    }
    versions = [("", ""), *((f"/versions/{arm.version}", f".{arm.version}") for arm in deployed.arms())]
    for segment, mark in versions:
        found |= _inference_paths(model, f"/v2/models/{path}{segment}", name + mark, deployed)
    return found


def _inference_paths(model: str, base: str, name: str, deployed: Deployed) -> dict[str, Any]:
    body = _json_body(infer_schema(_TENSOR), tensors=example_infer(deployed))
    body["content"]["application/octet-stream"] = {"schema": {}}
    body["description"] = (
        "JSON, or JSON followed by raw tensors: Inference-Header-Content-Length then gives the length of the JSON, and "
        "binary_data_size among the parameters of an input the bytes of its tensor."
    )
    answer = _ok(inferred_schema(_TENSOR))
    answer["content"]["application/octet-stream"] = {"schema": {}}
    shown = {"type": "object", "required": ["name", "platform", "inputs", "outputs"]}
    readiness = {"type": "object", "properties": {"name": {"type": "string"}, "ready": {"type": "boolean"}}}
    return {
        f"{base}/infer": {"post": _post(model, f"infer.{name}", "Score tensors.", body, answer)},
        base: {"get": _get(model, f"metadata.{name}", "Inputs and outputs of the model.", _ok(shown))},
        f"{base}/ready": {"get": _get(model, f"ready.{name}", "Whether it answers.", _ok(readiness))},
    }


def _invocations(model: str, deployed: Deployed, *, operation: str) -> dict[str, Any]:
    body = _json_body(invocation_schema(), **example_invocations(deployed))
    body["content"]["text/csv"] = {
        "schema": {"type": "string"},
        "examples": {"csv": {"value": example_csv(deployed)}},
    }
    answer = {"type": "object", "properties": {"predictions": {"type": "array"}}, "required": ["predictions"]}
    return _post(model, operation, "Score a table as MLflow's server does.", body, _ok(answer))


def _general_paths(models: list[str]) -> dict[str, Any]:
    index = {
        "type": "array",
        "items": {"type": "object", "required": ["name", "state"]},
    }
    flag: Schema = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    paths = {
        "/v2": {"get": _get("server", "server", "What this server is.", _ok(_OBJECT))},
        "/v2/health/live": {"get": _get("server", "live", "Whether it runs.", _ok(_OBJECT))},
        "/v2/health/ready": {"get": _get("server", "ready", "Whether it answers.", _ok(_OBJECT))},
        "/v2/repository/index": {
            "post": _post("server", "index", "The models.", _json_body(flag, required=False, all={}), _ok(index))
        },
        "/outcomes": {"post": _outcomes(models)},
        "/metrics": {"get": _get("server", "metrics", "Counters for Prometheus.", _text(TEXT[1]))},
        "/ping": {"get": _get("server", "ping", "Whether it answers, as MLflow asks.", _text(PLAIN[1]))},
        "/version": {"get": _get("server", "version", "The release.", _text(PLAIN[1]))},
        "/docs": {"get": _get("server", "docs", "A page to read.", _text(HTML[1]))},
        "/openapi.json": {"get": _get("server", "openapi", "This description.", _ok(_OBJECT))},
    }
    for verb in ("load", "unload"):
        path = f"/v2/repository/models/{{model}}/{verb}"
        operation = _post("server", verb, f"{verb.capitalize()} a model, where the server allows it.", {}, _ok(_OBJECT))
        del operation["requestBody"]
        operation["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
        paths[path] = {"post": operation}
    return paths


def _outcomes(models: list[str]) -> dict[str, Any]:
    outcome = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": ID["maxLength"] + 10},
            "label": {"type": ["boolean", "integer", "number", "string"]},
        },
        "required": ["id", "label"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {
            "outcomes": {"type": "array", "items": outcome, "minItems": 1},
            "model": {"type": ["string", "null"], "enum": [*models, None]},
        },
        "required": ["outcomes"],
        "additionalProperties": False,
    }
    operation = _post("server", "outcomes", "Bring the truth later.", _json_body(schema), _ok(_OBJECT))
    operation["responses"]["202"] = operation["responses"].pop("200")
    operation["responses"]["507"] = _failure("The disk does not take it.")
    return operation


def _post(tag: str, operation: str, summary: str, body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation,
        "tags": [tag],
        "summary": summary,
        "parameters": _HEADERS,
        "requestBody": body,
        "responses": {"200": answer, **{status: _failure(text) for status, text in _WRONG.items()}},
    }


def _get(tag: str, operation: str, summary: str, answer: dict[str, Any]) -> dict[str, Any]:
    failures = {status: _failure(_WRONG[status]) for status in ("401", "403", "404", "503")}
    return {
        "operationId": operation,
        "tags": [tag],
        "summary": summary,
        "responses": {"200": answer, **failures},
    }


def _json_body(schema: Schema, *, required: bool = True, **examples: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"required": required, "content": {JSON[1].decode(): content}}


def _ok(schema: Schema) -> dict[str, Any]:
    return {"description": "The answer.", "content": {JSON[1].decode(): {"schema": schema}}}


def _text(kind: bytes) -> dict[str, Any]:
    return {"description": "Text.", "content": {kind.partition(b";")[0].decode(): {"schema": {"type": "string"}}}}


def _failure(text: str) -> dict[str, Any]:
    return {"description": text, "content": {JSON[1].decode(): {"schema": {"$ref": _ERROR}}}}


def _error_schema() -> Schema:
    problem = {
        "type": "object",
        "properties": {"where": {"type": "string"}, "what": {"type": "string"}},
        "required": ["where", "what"],
    }
    return {
        "type": "object",
        "properties": {
            "error": {"type": "string", "description": "What happened."},
            "mend": {"type": "string", "description": "How to put it right."},
            "id": {"type": "string", "description": "The request's id."},
            "problems": {"type": "array", "items": problem, "description": "Each place that is wrong, up to ten."},
        },
    }
