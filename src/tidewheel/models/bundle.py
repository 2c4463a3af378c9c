"""Save a model as a bundle that explains and checks itself, and load it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from tidewheel.blobs.store import BlobStore
from tidewheel.errors import InvalidInput, NotFound, TidewheelError, UnsupportedFormat
from tidewheel.fingerprint.environment import capture_environment
from tidewheel.lineage.store import Store
from tidewheel.models.baseline import baseline_of
from tidewheel.models.encode import encode_model, format_named
from tidewheel.models.estimator import class_path
from tidewheel.models.golden import golden_samples, verify_golden
from tidewheel.models.manifest import FormatEntry, Lock, Manifest, decode_manifest, encode_manifest, plain_facets
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer, Scores
from tidewheel.models.signature import select, widen


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A stored model version."""

    digest: str  # sha256:<hex> of the manifest: the identity of the bundle
    manifest: Manifest  # everything but the weights
    size: int  # bytes of manifest and stored forms together
    blobs: BlobStore  # where the stored forms are kept
    trust: bool = False  # whether a pickle may be loaded

    def scorer(self, name: str | None = None) -> Scorer:
        """Load the fastest stored form, or the one named, check it on the golden samples and return it.

        Raises NotFound for a form that is not stored, CorruptBlob or MissingBlob when its bytes are damaged or gone,
        UnsupportedFormat when this installation cannot run it, or it is a pickle and trust was not given,
        ValidationFailed when it answers the golden samples otherwise than recorded.
        """
        entry = self._entry(name)
        if entry.trust and not self.trust:
            raise UnsupportedFormat(
                f"The bundle {self.digest[:19]} holds its model as a pickle, which runs code when it is loaded.",
                "Say load_bundle(store, digest, trust=True) if you trust its maker.",
            )
        form = format_named(entry.name)
        data = self.blobs.get(entry.digest)
        scorer = form.load(data, signature=self.manifest.signature, adapter=self.manifest.adapter)
        verify_golden(self.manifest.golden, scorer, entry.name)
        return scorer

    def verify(self) -> None:
        """Load every stored form and check it on the golden samples; raises like `scorer`."""
        for entry in self.manifest.formats:
            self.scorer(entry.name)

    def _entry(self, name: str | None) -> FormatEntry:
        entries = {entry.name: entry for entry in self.manifest.formats}
        if name is None and entries:
            return self.manifest.formats[0]
        if name not in entries:
            raise NotFound("format of this bundle", name or "", entries, "Bundles keep the fastest that passed parity.")
        return entries[name]


def save_bundle(
    store: Store,
    model: Model,
    *,
    rows: Any,
    code_digest: str = "",
    environment: Mapping[str, Any] | None = None,
    facets: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Bundle:
    """Store a model with all that is needed to serve, check, watch and explain it.

    `rows` are real rows (training rows, usually; any frame): up to 2,000 of them decide whether the ONNX form answers
    like the original, all of them make the baseline. The bundle holds ONNX when it passes, otherwise skops with the
    reason, otherwise (model or call with trust=True) a pickle. `environment` has python, platform and packages; it is
    captured when not given.

    Raises InvalidInput for rows the model cannot score, UnsupportedFormat when no allowed format holds the model.
    """
    frame = select(model.signature, rows)
    if not frame.height:
        raise InvalidInput("A bundle needs real rows, none were given.", "Give the rows the model was trained on.")
    scores = _score_all(model, frame)
    kept = Model.restored(
        model.estimator,
        signature=widen(model.signature, frame),
        adapter=model.adapter,
        trust=model.trust or trust,
    )
    encoded = encode_model(kept, frame)
    manifest = Manifest(
        estimator=class_path(model.estimator),
        signature=kept.signature,
        adapter=kept.adapter,
        formats=[encoded.entry],
        lock=_lock(environment),
        code_digest=code_digest,
        baseline=baseline_of(kept.signature, frame, scores),
        golden=golden_samples(kept, frame),
        facets=plain_facets(facets or {}),
    )
    data = encode_manifest(manifest)
    store.blobs.put(encoded.data)
    digest = store.blobs.put(data)
    return load_bundle(store, digest, trust=kept.trust)


def load_bundle(store: Store, digest: str, *, trust: bool = False) -> Bundle:
    """Return the bundle of a digest; the model itself is loaded by `scorer()`.

    `trust=True` lets a pickle be loaded, which runs its maker's code.
    Raises MissingBlob, CorruptBlob when the manifest no longer matches its digest, InvalidInput for another blob.
    """
    data = store.blobs.get(digest)
    manifest = decode_manifest(data)
    size = len(data) + sum(entry.size for entry in manifest.formats)
    return Bundle(digest=digest, manifest=manifest, size=size, blobs=store.blobs, trust=trust)


def _score_all(model: Model, frame: pl.DataFrame) -> Scores:
    try:
        return model.score(frame)
    except TidewheelError:
        raise
    except Exception as error:
        raise InvalidInput(
            f"{class_path(model.estimator)} cannot score the rows it is saved with: {error}",
            "Give rows like those it was fitted on, or put an imputer before it.",
        ) from error


def _lock(environment: Mapping[str, Any] | None) -> Lock:
    if environment is None:
        here = capture_environment()
        return Lock(python=here.python, platform=here.platform, packages=dict(sorted(here.packages.items())))
    return Lock(
        python=str(environment.get("python", "")),
        platform=str(environment.get("platform", "")),
        packages={str(name): str(version) for name, version in sorted(dict(environment.get("packages", {})).items())},
    )
