"""A zip with one handler, as functions of AWS Lambda and its likes take it."""

from __future__ import annotations

from pathlib import Path

from tidewheel.shipping.archives import zip_bytes
from tidewheel.shipping.payload import Payload
from tidewheel.shipping.wheel import requirements, standalone_source

_HANDLER = '''"""{name}:{version} as a function. Configure the handler `handler.handler`.

An event is {{"rows": [{{...}}]}} itself, or an HTTP event whose body is that JSON.
"""

import base64
import json
from pathlib import Path

from standalone import Refused, Standalone

MODEL = Standalone(Path(__file__).with_name("model"))


def handler(event, context=None):
    """Score the rows of an event."""
    http = isinstance(event, dict) and "rows" not in event and "body" in event
    try:
        content = _body(event) if http else event
        if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
            raise Refused('Send {{"rows": [{{...}}]}}.')
        answer = {{"model": MODEL.name, "version": MODEL.version, **MODEL.predict(content["rows"])}}
        status = 200
    except (Refused, ValueError) as error:
        if not http:
            raise
        answer, status = {{"error": str(error)}}, 422
    if not http:
        return answer
    return {{"statusCode": status, "headers": {{"content-type": "application/json"}}, "body": json.dumps(answer)}}


def _body(event):
    body = event.get("body") or ""
    return json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)
'''


def function_zip(payload: Payload) -> bytes:
    """Return the archive: handler, scorer, model, and requirements.txt for the platform's layer or build step.

    The same version gives the same bytes. Raises UnsupportedFormat when the version is not stored as ONNX.
    """
    payload.needs_onnx("function")
    files = {
        "handler.py": _HANDLER.format(name=payload.name, version=payload.version).encode(),
        "standalone.py": standalone_source(),
        "requirements.txt": ("\n".join(requirements(payload)) + "\n").encode(),
        **{f"model/{name}": data for name, data in payload.files.items()},
    }
    return zip_bytes(files)


def write_function(payload: Payload, out: Path) -> Path:
    """Write the archive into a folder and return its path."""
    out.mkdir(parents=True, exist_ok=True)
    place = out / f"{payload.distribution}-{payload.version}-function.zip"
    place.write_bytes(function_zip(payload))
    return place
