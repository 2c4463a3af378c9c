"""The ways to ship a model, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.store import Store
from tidewheel.shipping.browser import write_page
from tidewheel.shipping.containers import deployment, inference_service, write_dockerfile, write_manifest
from tidewheel.shipping.image import build_image
from tidewheel.shipping.payload import Payload, payload_of, write_folder
from tidewheel.shipping.push import push_image
from tidewheel.shipping.serverless import write_function
from tidewheel.shipping.source import write_source
from tidewheel.shipping.wheel import write_wheel


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What some ways need besides the model."""

    image: str = ""  # reference of the image that kubernetes and kserve start
    base: Path | None = None  # OCI layout below an image
    packages: Path | None = None  # folder of installed packages for an image
    runtime: Path | None = None  # dist folder of onnxruntime-web for a page
    push: str = ""  # where an image is pushed to
    user: str = ""  # of that registry
    password: str = ""  # of that user


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What was written."""

    model: str  # name:number
    bundle: str  # digest of the bundle
    way: str  # how it was shipped
    place: str  # file or folder
    notes: tuple[str, ...] = ()  # digests and what to do next


Way = Callable[[Payload, Path, Wishes], tuple[Path, tuple[str, ...]]]


def ship(store: Store, reference: str, way: str, out: Path, wishes: Wishes | None = None) -> Shipped:
    """Write `name`, `name:3` or `name@alias` in one of the ways of `WAYS` under `out`.

    Raises NotFound for an unknown model or way, UnsupportedFormat where the way needs ONNX and the version has none,
    InvalidInput for a folder that is not empty or a wish that is missing.
    """
    if way not in WAYS:
        raise NotFound("way to ship", way, WAYS)
    payload = payload_of(store, reference)
    place, notes = WAYS[way](payload, out, wishes or Wishes())
    model = f"{payload.name}:{payload.version}"
    return Shipped(model=model, bundle=payload.digest, way=way, place=str(place), notes=notes)


def _folder(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    del wishes
    return write_folder(payload, out), (f"Serve it anywhere: tidewheel serve --bundle {out}",)


def _wheel(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    del wishes
    return write_wheel(payload, out), (f"Use it: import {payload.module}; {payload.module}.predict([{{...}}])",)


def _function(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    del wishes
    return write_function(payload, out), ("The handler is handler.handler; requirements.txt says what it needs.",)


def _page(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    return write_page(payload, out, runtime=wishes.runtime), (f"Look at it: python -m http.server -d {out}",)


def _dockerfile(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    del wishes
    return write_dockerfile(payload, out), (f"Build it: docker build {out}",)


def _image(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    built = build_image(payload, out, base=wishes.base, packages=wishes.packages)
    notes = [f"image {built.digest}, {len(built.layers)} layers"]
    if wishes.push:
        pushed = push_image(out, wishes.push, user=wishes.user, password=wishes.password)
        notes.append(f"pushed to {pushed.reference}: {pushed.sent} blobs sent, {pushed.known} were there")
    if wishes.base is None:
        notes.append("Without --base it holds the model and its packages, and no Python to start them.")
    return built.folder, tuple(notes)


def _kubernetes(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    place = write_manifest(deployment(payload, _image_named(wishes)), out / f"{payload.distribution}-kubernetes.json")
    return place, (f"Apply it: kubectl apply -f {place}",)


def _kserve(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    content = inference_service(payload, _image_named(wishes))
    place = write_manifest(content, out / f"{payload.distribution}-kserve.json")
    return place, (f"Apply it: kubectl apply -f {place}",)


def _image_named(wishes: Wishes) -> str:
    if not wishes.image:
        raise InvalidInput("The manifest needs the image to start.", "Say --image host/name:tag.")
    return wishes.image


def _python(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    del wishes
    return write_source(payload, out, "py"), (f"Use it: import {payload.module}; {payload.module}.predict(row)",)


def _c(payload: Payload, out: Path, wishes: Wishes) -> tuple[Path, tuple[str, ...]]:
    del wishes
    place = write_source(payload, out, "c")
    return place, (f"Compile it: cc -O2 -shared -fPIC {place} -lm; its head says how to call it.",)


WAYS: Mapping[str, Way] = {
    "folder": _folder,
    "wheel": _wheel,
    "function": _function,
    "page": _page,
    "dockerfile": _dockerfile,
    "image": _image,
    "kubernetes": _kubernetes,
    "kserve": _kserve,
    "python": _python,
    "c": _c,
}
