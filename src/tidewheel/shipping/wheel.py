"""A Python wheel that embeds a model: the model as a dependency, pinned like any other."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files as package_files
from pathlib import Path

from tidewheel.shipping.archives import zip_bytes
from tidewheel.shipping.payload import Payload

_WHEEL = b"Wheel-Version: 1.0\nGenerator: tidewheel\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_FACE = '''"""{name}:{version}, shipped by tidewheel.

>>> import {module}
>>> {module}.predict([{{...}}])
"""

from functools import cache
from pathlib import Path

from {module}.standalone import Refused, Standalone

__all__ = ["Refused", "Standalone", "model", "predict"]
__version__ = "{number}"


@cache
def model():
    """Return the loaded model."""
    return Standalone(Path(__file__).with_name("data"))


def predict(rows):
    """Score rows, a list of dictionaries by column: predictions, and probabilities with their classes."""
    return model().predict(rows)
'''


def wheel(payload: Payload) -> tuple[str, bytes]:
    """Return the file name of the wheel and its bytes; the same version always gives the same bytes.

    The version of the distribution is 1.<number>.0; it requires NumPy and ONNX Runtime no older than the model's lock
    has them, and no tidewheel. Raises UnsupportedFormat when the version is not stored as ONNX.
    """
    payload.needs_onnx("wheel")
    number = f"1.{payload.version}.0"
    stem = f"{payload.module}-{number}"
    face = _FACE.format(name=payload.name, version=payload.version, module=payload.module, number=number)
    files = {
        f"{payload.module}/__init__.py": face.encode(),
        f"{payload.module}/standalone.py": standalone_source(),
        **{f"{payload.module}/data/{name}": data for name, data in payload.files.items()},
        f"{stem}.dist-info/METADATA": _metadata(payload, number).encode(),
        f"{stem}.dist-info/WHEEL": _WHEEL,
    }
    files[f"{stem}.dist-info/RECORD"] = _record(files, stem)
    return f"{stem}-py3-none-any.whl", zip_bytes(files)


def write_wheel(payload: Payload, out: Path) -> Path:
    """Write the wheel into a folder and return its path."""
    name, data = wheel(payload)
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(data)
    return out / name


def requirements(payload: Payload) -> list[str]:
    """Return what the standalone scorer needs, no older than where the model was made."""
    packages = payload.manifest.lock.packages
    return [f"{name}>={packages[name]}" if name in packages else name for name in ("numpy", "onnxruntime")]


def standalone_source() -> bytes:
    """Return the scorer's source, which is shipped as it stands."""
    return package_files("tidewheel.shipping").joinpath("standalone.py").read_bytes()


def _metadata(payload: Payload, number: str) -> str:
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {payload.distribution}-model",
        f"Version: {number}",
        f"Summary: The model {payload.name}, version {payload.version}, {payload.digest}",
        "Requires-Python: >=3.9",
        *(f"Requires-Dist: {need}" for need in requirements(payload)),
    ]
    return "\n".join(lines) + "\n"


def _record(files: Mapping[str, bytes], stem: str) -> bytes:
    lines = [f"{name},sha256={_urlsafe(data)},{len(data)}" for name, data in sorted(files.items())]
    return ("\n".join([*lines, f"{stem}.dist-info/RECORD,,"]) + "\n").encode()


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
