"""A static page that scores in the browser: the model, a form made from its signature, ONNX Runtime Web beside it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from importlib.resources import files as package_files
from pathlib import Path

import msgspec

from tidewheel.errors import InvalidInput, NotFound, UnsupportedFormat
from tidewheel.shipping.payload import Payload

RUNTIME = "onnxruntime-web"
RUNTIME_FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def write_page(payload: Payload, out: Path, *, runtime: Path | None = None) -> Path:
    """Write the page into a new or empty folder and return it; any web server can serve it, nothing leaves the browser.

    `runtime` is the `dist` folder of the npm package onnxruntime-web; without it the package is fetched with npm.

    Raises UnsupportedFormat when the version is not stored as ONNX, NotFound when neither runtime nor npm is there.
    """
    payload.needs_onnx("page")
    texts = [field.name for field in payload.manifest.signature.fields if field.kind == "datetime"]
    if texts:
        raise UnsupportedFormat(f"A page has no datetime input: {', '.join(texts)}.", "Ship it as a wheel.")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise InvalidInput(f"{out} is not empty.", "Name a new folder: nothing is overwritten.")
    for name, data in (_from_folder(runtime) if runtime else _from_npm()).items():
        (out / name).write_bytes(data)
    for name in ("index.html", "score.js"):
        (out / name).write_bytes(package_files("tidewheel.shipping").joinpath("page", name).read_bytes())
    (out / "model.onnx").write_bytes(payload.files["model.onnx"])
    (out / "model.json").write_text(json.dumps(_description(payload), indent=1), "utf-8")
    return out


def _description(payload: Payload) -> Mapping[str, object]:
    manifest = payload.manifest
    return {
        "name": payload.name,
        "version": payload.version,
        "digest": payload.digest,
        "signature": msgspec.to_builtins(manifest.signature),
        "golden": msgspec.to_builtins(manifest.golden),
    }


def _from_folder(folder: Path) -> dict[str, bytes]:
    try:
        return {name: (folder / name).read_bytes() for name in RUNTIME_FILES}
    except FileNotFoundError as error:
        raise NotFound(
            "file of onnxruntime-web", str(error.filename), mend="Give the dist folder of the npm package."
        ) from error


def _from_npm() -> dict[str, bytes]:
    npm = shutil.which("npm")
    mend = f"Install Node.js, or give the dist folder of {RUNTIME} with --runtime."
    if npm is None:
        raise NotFound("program", "npm", mend=mend)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603 - npm, with words of ours
            [npm, "pack", "--silent", f"{RUNTIME}@1"], cwd=folder, capture_output=True, text=True, check=False
        )
        packed = next(Path(folder).glob("*.tgz"), None)
        if done.returncode or packed is None:
            raise NotFound("npm package", RUNTIME, mend=f"npm said: {done.stderr.strip()[-300:]} {mend}")
        return _unpacked(packed.read_bytes())


def _unpacked(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for name in RUNTIME_FILES:
            file = archive.extractfile(f"package/dist/{name}")
            if file is not None:
                found[name] = file.read()
    return found
