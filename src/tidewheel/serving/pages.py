"""What the server says about itself: metadata, health and a short page of documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from tidewheel.serving.arms import Arm, Deployed
from tidewheel.serving.endpoint import Endpoint
from tidewheel.serving.outputs import model_metadata
from tidewheel.serving.routes import ROUTES
from tidewheel.serving.schemas import example_row


def readiness(endpoints: Mapping[str, Endpoint], *, ready: bool) -> dict[str, Any]:
    """Return what the ready check says: whether requests are answered, and by which versions."""
    return {"ready": ready, "live": True, "models": [_model_state(each) for each in endpoints.values()]}


def metadata_of(endpoint: Endpoint, deployed: Deployed, named: str) -> dict[str, Any]:
    """Return the protocol's metadata of a model, or of one live version of it."""
    arm = endpoint.version(deployed, named) if named else deployed.champion
    versions = [each.version for each in deployed.arms()]
    return model_metadata(endpoint.model, versions, arm.signature, _platform(arm.form))


def documentation(endpoints: Mapping[str, Endpoint]) -> bytes:
    """Return the page of /docs: every path, and one request per model that works as it stands."""
    paths = "".join(f"<tr><td>{route.method}</td><td>{escape(route.path)}</td></tr>" for route in ROUTES)
    models = "".join(_model_section(endpoint) for endpoint in endpoints.values()) or "<p>No model is deployed yet.</p>"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>tidewheel serving</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}"
        "pre{background:#f3f4f6;padding:1rem;overflow-x:auto}td{padding:.1rem 1rem .1rem 0;font-family:monospace}"
        "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}pre{background:#222}}</style>"
        f"<h1>tidewheel serving</h1><p><a href=/openapi.json>OpenAPI 3.1</a></p><table>{paths}</table>{models}"
        "<h2>Outcomes</h2><p>Bring the truth later, by the id of an answer; row i of several is <code>id/i</code>.</p>"
        '<pre>curl -d \'{"outcomes": [{"id": "ID", "label": 1}]}\' http://HOST:PORT/outcomes</pre></html>'
    ).encode()


def _model_state(endpoint: Endpoint) -> dict[str, Any]:
    deployed = endpoint.deployed
    state: dict[str, Any] = {"name": endpoint.model, "ready": deployed is not None}
    if deployed is not None:
        state |= {"version": deployed.champion.version, "deployment": deployed.traffic.seq}
        if deployed.challenger is not None:
            state |= {"challenger": deployed.challenger.version, "share": deployed.traffic.share}
            if deployed.challenger.trouble:
                state["challenger_trouble"] = deployed.challenger.trouble
        if deployed.way is not None:
            state |= {"strategy": deployed.way.kind, "arms": [_arm_state(*each) for each in deployed.shares()]}
    if endpoint.trouble:
        state["refused"] = endpoint.trouble
    if endpoint.fallback:
        state["fallback"] = endpoint.fallback
    if endpoint.journal.trouble:
        state["log"] = endpoint.journal.trouble
    return state


def _arm_state(arm: Arm, share: float) -> dict[str, Any]:
    state: dict[str, Any] = {"version": arm.version, "share": share}
    return state | ({"trouble": arm.trouble} if arm.trouble else {})


def _platform(form: str) -> str:
    return {"onnx": "onnxruntime_onnx", "skops": "sklearn_skops"}.get(form, f"python_{form}")


def _model_section(endpoint: Endpoint) -> str:
    name = escape(endpoint.model)
    if endpoint.deployed is None:
        return f"<h2>{name}</h2><p>Not deployed yet.</p>"
    body = escape(json.dumps({"rows": [example_row(endpoint.deployed)]}, indent=1), quote=False).replace("'", "&#39;")
    return (
        f"<h2>{name}</h2><p>Version {endpoint.deployed.champion.version} answers.</p>"
        f"<pre>curl -d '{body}' http://HOST:PORT/predict/{name}</pre>"
    )
