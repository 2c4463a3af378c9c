"""An OCI image built without a daemon: a layout whose every byte follows from the model, the base and the packages.

Source: OCI image format 1.1 (2024): image layout, index, manifest, config, layers as gzip tar.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidewheel.blobs.store import digest_of
from tidewheel.errors import CorruptBlob, InvalidInput, NotFound
from tidewheel.shipping.archives import gzip_bytes, tar_bytes
from tidewheel.shipping.containers import COMMAND, PORT, pins
from tidewheel.shipping.payload import Payload

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CREATED = "1970-01-01T00:00:00Z"  # an image that tells the time is another image every time
SITE = "opt/tidewheel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """How one blob is named in an image."""

    media_type: str  # what it is
    digest: str  # sha256:<hex>
    size: int  # bytes

    def as_json(self) -> dict[str, Any]:
        """Return it as manifests write it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """An image to stand on."""

    config: Mapping[str, Any]  # its config: platform, environment, diff_ids, history
    layers: Sequence[Descriptor]  # its layers, lowest first
    folder: Path  # the layout that holds their blobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that was written."""

    folder: Path  # its layout
    digest: str  # sha256:<hex> of its manifest: the identity of the image
    layers: tuple[Descriptor, ...] = field(default=())  # lowest first


def build_image(
    payload: Payload, out: Path, *, base: Path | None = None, packages: Path | None = None, tag: str = "latest"
) -> Image:
    """Write an image layout into a new or empty folder.

    `base` is the layout of an image with Python (`skopeo copy docker://python:3.11-slim oci:DIR` makes one); without
    it the image holds the model and its packages alone, to be mounted or copied from. `packages` is a folder of
    installed packages (`install_packages`), one layer of its own, the same for every model with the same lock.

    The same payload, base and packages give the same bytes on any machine, so that the digest is lineage.
    Raises InvalidInput when `out` is not empty or the base is no layout, CorruptBlob for an altered base.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise InvalidInput(f"{out} is not empty.", "Name a new folder: nothing is overwritten.")
    below = read_base(base) if base else None
    layers: list[Descriptor] = []
    diffs: list[str] = []
    if below:
        layers += [_put(out, _blob(below.folder, each.digest), each.media_type) for each in below.layers]
        diffs += below.config["rootfs"]["diff_ids"]
    for tar in _own_layers(payload, packages):
        layers.append(_put(out, gzip_bytes(tar), LAYER))
        diffs.append(digest_of(tar))
    config = _put(out, _json(_config(payload, below, diffs)), CONFIG)
    manifest = _put(out, _json(_manifest(payload, config, layers)), MANIFEST)
    entry = manifest.as_json() | {"annotations": {"org.opencontainers.image.ref.name": tag}}
    (out / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    (out / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return Image(folder=out, digest=manifest.digest, layers=tuple(layers))


def install_packages(
    payload: Payload, folder: Path, *, tidewheel: str = "", python: str = "", platform: str = "x86_64-manylinux_2_28"
) -> Path:
    """Install tidewheel and what scores the model, at its locked versions, into a folder, by uv.

    Wheels alone, for `platform` and `python` (default: the model's minor version). `tidewheel` is a requirement or the
    path of a wheel (default: this very version). Raises NotFound without uv or when a package has no such wheel.
    """
    from importlib.metadata import version

    minor = python or ".".join(payload.manifest.lock.python.split(".")[:2])
    wanted = [tidewheel or f"tidewheel=={version('tidewheel')}", *pins(payload)]
    command = [
        *("uv", "pip", "install", "--quiet", "--no-compile-bytecode", "--only-binary", ":all:"),
        *("--target", str(folder), "--python-version", minor, "--python-platform", platform, *wanted),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - uv, found on PATH
    except FileNotFoundError as error:
        raise NotFound("program", "uv", mend="Install it: pip install uv") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise NotFound("packages for the image", " ".join(wanted), mend=f"uv said: {said[-1] if said else 'nothing'}")
    return folder


def read_base(folder: Path) -> Base:
    """Return the one image for this machine's platform in a layout; raises InvalidInput for anything else."""
    try:
        found = json.loads((folder / "index.json").read_text("utf-8"))
        while found.get("mediaType", INDEX) == INDEX and "manifests" in found:
            found = json.loads(_blob(folder, _chosen(found["manifests"], folder)["digest"]))
        config = json.loads(_blob(folder, found["config"]["digest"]))
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(
            f"{folder} is not the layout of an image: {error}.", "Make one: skopeo copy docker://IMAGE oci:DIR"
        ) from error
    layers = [
        Descriptor(media_type=_oci(layer["mediaType"]), digest=layer["digest"], size=layer["size"])
        for layer in found["layers"]
    ]
    return Base(config=config, layers=layers, folder=folder)


def _chosen(manifests: Sequence[Mapping[str, Any]], folder: Path) -> Mapping[str, Any]:
    fit = [each for each in manifests if each.get("platform", {}).get("architecture", "amd64") == "amd64"]
    if not fit:
        raise InvalidInput(f"{folder} holds no image for amd64.", "Copy the image of that platform.")
    return fit[0]


def _own_layers(payload: Payload, packages: Path | None) -> Iterator[bytes]:
    if packages is not None:
        yield tar_bytes(_tree(packages, SITE))
    yield tar_bytes((f"model/{name}", data) for name, data in payload.files.items())


def _tree(folder: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.name != "RECORD":
            yield f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes()


def _config(payload: Payload, below: Base | None, diffs: list[str]) -> Mapping[str, Any]:
    under: Mapping[str, Any] = below.config if below else {"architecture": "amd64", "os": "linux"}
    config: dict[str, Any] = dict(under.get("config", {}))
    given = [each for each in config.get("Env", []) if not each.startswith(("PYTHONPATH=", "TIDEWHEEL_"))]
    config |= {
        "Env": [*given, f"PYTHONPATH=/{SITE}", "TIDEWHEEL_PUBLIC=true", "TIDEWHEEL_HOME=/tmp/tidewheel"],
        "Entrypoint": ["python", "-m"],
        "Cmd": list(COMMAND),
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "User": "1000:1000",
        "Labels": {**config.get("Labels", {}), "tidewheel.model": f"{payload.name}:{payload.version}"},
    }
    own = len(diffs) - len(below.config["rootfs"]["diff_ids"] if below else ())
    history = [*under.get("history", []), *({"created": CREATED, "created_by": "tidewheel ship"} for _ in range(own))]
    return {
        "architecture": under["architecture"],
        "os": under["os"],
        "created": CREATED,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diffs},
        "history": history,
    }


def _manifest(payload: Payload, config: Descriptor, layers: Sequence[Descriptor]) -> Mapping[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.as_json(),
        "layers": [layer.as_json() for layer in layers],
        "annotations": {
            "org.opencontainers.image.title": payload.name,
            "org.opencontainers.image.version": str(payload.version),
            "tidewheel.dev/bundle": payload.digest,
        },
    }


def _oci(media_type: str) -> str:
    """Return the OCI name of a layer's type; Docker's own says the same."""
    return {"application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER}.get(media_type, media_type)


def _put(folder: Path, data: bytes, media_type: str) -> Descriptor:
    digest = digest_of(data)
    place = folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return Descriptor(media_type=media_type, digest=digest, size=len(data))


def _blob(folder: Path, digest: str) -> bytes:
    data = (folder / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise CorruptBlob(digest, f"the layout {folder} holds other bytes under it")
    return data


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
