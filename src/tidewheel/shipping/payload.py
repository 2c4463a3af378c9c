"""A model version as files: what every way to ship it carries, and how such a folder becomes a version again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidewheel.blobs.store import digest_of
from tidewheel.errors import CorruptBlob, InvalidInput, NotFound, UnsupportedFormat
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.models.manifest import Manifest
from tidewheel.registry.aliases import current_aliases
from tidewheel.registry.promotion import promote
from tidewheel.registry.versions import ModelVersion, get_model, list_models, list_versions, register_model

LAYOUT = 1
INDEX, MANIFEST = "model.json", "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The files of one model version, and what is known of it."""

    name: str  # name of the model
    version: int  # number of the version
    digest: str  # of the bundle
    manifest: Manifest  # signature, formats, lock, golden samples
    files: Mapping[str, bytes]  # by name: model.json, manifest.json, model.<format>

    @property
    def distribution(self) -> str:
        """Name as Python packages, images and Kubernetes objects may have it: bike-rentals."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "model"

    @property
    def module(self) -> str:
        """Name as Python modules may have it: bike_rentals_model."""
        return f"{self.distribution.replace('-', '_')}_model"

    def needs_onnx(self, way: str) -> None:
        """Raise UnsupportedFormat when the version is not stored as ONNX, which `way` cannot do without."""
        entry = self.manifest.formats[0]
        if not any(each.name == "onnx" for each in self.manifest.formats):
            raise UnsupportedFormat(
                f"{self.name}:{self.version} is stored as {entry.name}; a {way} scores ONNX alone."
                + (f" There is no ONNX because: {entry.reason}" if entry.reason else ""),
                "Ship it as a folder or an image, which run tidewheel itself.",
            )


def payload_of(store: Store, reference: str) -> Payload:
    """Return the files of `name`, `name:3` or `name@alias`; every byte is checked against its digest.

    Raises NotFound, MissingBlob, CorruptBlob.
    """
    found = get_model(store, reference)
    bundle = load_bundle(store, found.bundle_digest)
    index = {
        "layout": LAYOUT,
        "name": found.name,
        "version": found.seq,
        "digest": found.bundle_digest,
        "metrics": dict(found.metrics),
        "registered": found.at.isoformat(),
    }
    files = {INDEX: _json(index), MANIFEST: store.blobs.get(found.bundle_digest)}
    files |= {f"model.{entry.name}": store.blobs.get(entry.digest) for entry in bundle.manifest.formats}
    return Payload(
        name=found.name, version=found.seq, digest=found.bundle_digest, manifest=bundle.manifest, files=files
    )


def write_folder(payload: Payload, folder: Path) -> Path:
    """Write the files into a new or empty folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InvalidInput(f"{folder} is not empty.", "Name a new folder: nothing is overwritten.")
    for name, data in payload.files.items():
        (folder / name).write_bytes(data)
    return folder


def import_folder(store: Store, folder: Path, *, name: str = "", by: str = "", promoted: bool = False) -> ModelVersion:
    """Register the version that a folder holds, as the next one of its model; it keeps the digest it was shipped with.

    A version of that digest is not registered twice. `promoted` lets it answer, unless it does already.

    Raises NotFound for a folder without a model, CorruptBlob when a file was altered, InvalidInput for a newer layout.
    """
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        manifest = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise NotFound("file of a shipped model", error.filename, mend="Name the folder that ship wrote.") from error
    except ValueError as error:
        raise InvalidInput(f"{folder / INDEX} is not JSON: {error}.", "Ship the model again.") from error
    if index.get("layout") != LAYOUT:
        raise InvalidInput(
            f"{folder} has layout {index.get('layout')!r}, this tidewheel reads 1.", "Upgrade tidewheel."
        )
    _keep(store, manifest, str(index["digest"]), MANIFEST)
    bundle = load_bundle(store, str(index["digest"]))
    for entry in bundle.manifest.formats:
        _keep(store, (folder / f"model.{entry.name}").read_bytes(), entry.digest, f"model.{entry.name}")
    called = name or str(index["name"])
    found = _known(store, called, bundle.digest) or register_model(
        store,
        called,
        bundle,
        metrics=index.get("metrics"),
        by=by,
        facets={"shipped_as": f"{index['name']}:{index['version']}"},
    )
    if promoted and current_aliases(store, called).get("champion") != found.seq:
        promote(store, called, found.seq, by=by, reason=f"shipped as {index['name']}:{index['version']}")
    return found


def _known(store: Store, name: str, digest: str) -> ModelVersion | None:
    if name not in list_models(store):
        return None
    return next((each for each in list_versions(store, name) if each.bundle_digest == digest), None)


def _keep(store: Store, data: bytes, digest: str, name: str) -> None:
    if digest_of(data) != digest:
        raise CorruptBlob(digest, f"{name} has the digest {digest_of(data)}")
    store.blobs.put(data)


def _json(content: object) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
