"""The manifest of a bundle: everything about a model but its weights; its bytes are the bundle's identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tidewheel.errors import InvalidInput
from tidewheel.models.frames import Adapter
from tidewheel.models.golden import Golden
from tidewheel.models.parity import Parity
from tidewheel.models.signature import Signature
from tidewheel.stats.profile import Profile

MEDIA_TYPE = "application/vnd.tidewheel.bundle+json"
VERSION = 1


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """The environment a model was made in."""

    python: str = ""  # version of Python
    platform: str = ""  # operating system and processor
    packages: dict[str, str] = {}  # installed distributions and their versions


class FormatEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One stored form of the model."""

    name: str  # onnx-int8, onnx, lightgbm, xgboost, pt2, skops or pickle
    digest: str  # sha256:<hex> of its bytes
    size: int  # bytes
    parity: Parity  # how it compared with the original on real rows
    reason: str = ""  # why a faster form is not here, in words
    trust: bool = False  # whether loading it runs code (a pickle)
    golden: Golden | None = None  # its own golden answers, where they differ from the original's: quantised graphs


class Quantisation(msgspec.Struct, frozen=True, kw_only=True):
    """What 8-bit weights cost, measured on real rows."""

    served: bool  # whether the share was reached, and the quantised graph is served
    agreement: float  # share of rows with the same decision: the same class, or a number within 1 % of their range
    wanted: float  # share that was asked for
    rows: int  # rows compared
    largest: float  # largest absolute difference of a probability or a number
    mean: float  # mean absolute difference
    size: int  # bytes of the quantised graph, 0 when there is none
    of: int  # bytes of the graph it was made from
    reason: str = ""  # why there is none, or it is not served


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says about its model. It holds no time and no path: equal models give equal bytes."""

    version: int = VERSION  # version of this layout
    estimator: str  # module and class of the estimator
    signature: Signature  # inputs and outputs
    adapter: Adapter  # kind of frame that the native form takes
    formats: list[FormatEntry]  # stored forms, the fastest first
    lock: Lock  # environment it was made in
    code_digest: str  # digest of the training code's closure
    baseline: Profile  # inputs and answers at training time
    golden: Golden  # rows with the answers that must come
    quantisation: Quantisation | None = None  # what 8-bit weights cost, when they were asked for
    facets: dict[str, Any] = {}  # the caller's own facts


def plain_facets(facets: Mapping[str, Any]) -> dict[str, Any]:
    """Return facets as JSON gives them back, keys in order; raises InvalidInput for what JSON cannot hold."""
    try:
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(facets, order="deterministic"))
    except (TypeError, msgspec.MsgspecError) as error:
        raise InvalidInput(
            f"The facets cannot be written as JSON: {error}.", "Give numbers, text, lists and dictionaries."
        ) from error
    return found


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as JSON, columns in their order: the same manifest gives the same bytes."""
    return msgspec.json.encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest of its bytes; raises InvalidInput for anything else."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise InvalidInput(
            f"These bytes are not a bundle manifest: {error}.", "Give the digest that save_bundle returned."
        ) from error
    if manifest.version > VERSION:
        raise InvalidInput(
            f"This bundle has layout {manifest.version}, this tidewheel reads up to {VERSION}.", "Upgrade tidewheel."
        )
    return manifest
