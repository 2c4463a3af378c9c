"""Save a model as a bundle that explains and checks itself, and load it again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tidewheel.blobs.store import BlobStore
from tidewheel.errors import InvalidInput, MissingExtra, NotFound, TidewheelError, UnsupportedFormat
from tidewheel.fingerprint.environment import capture_environment
from tidewheel.lineage.store import Store
from tidewheel.models.baseline import baseline_of
from tidewheel.models.encode import encode_model, format_named
from tidewheel.models.estimator import class_path
from tidewheel.models.flavours import flat_rows
from tidewheel.models.golden import golden_samples, verify_golden
from tidewheel.models.manifest import FormatEntry, Lock, Manifest, decode_manifest, encode_manifest, plain_facets
from tidewheel.models.model import Model
from tidewheel.models.quantise import quantise_model
from tidewheel.models.scorer import Scorer, Scores
from tidewheel.models.signature import select, widen

logger = logging.getLogger("tidewheel.models")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A bundle's model, ready to score."""

    scorer: Scorer  # the loaded form, checked on the golden samples
    form: str  # its name
    passed_over: tuple[str, ...] = ()  # why faster forms were not taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A stored model version."""

    digest: str  # sha256:<hex> of the manifest: the identity of the bundle
    manifest: Manifest  # everything but the weights
    size: int  # bytes of manifest and stored forms together
    blobs: BlobStore  # where the stored forms are kept
    trust: bool = False  # whether a pickle may be loaded

    def scorer(self, name: str | None = None) -> Scorer:
        """Load the fastest stored form that this installation can run, or the one named, checked on the golden samples.

        Raises NotFound for a form that is not stored, CorruptBlob or MissingBlob when its bytes are damaged or gone,
        UnsupportedFormat or MissingExtra when this installation cannot run any, or it is a pickle and trust was not
        given, ValidationFailed when it answers the golden samples otherwise than recorded.
        """
        return self.open(name).scorer

    def open(self, name: str | None = None) -> Opened:
        """Load like `scorer`, and tell which form it is: the next one is taken, and said, where a library is absent."""
        if name is not None:
            return Opened(scorer=self._load(self._entry(name)), form=name)
        refusals: list[TidewheelError] = []
        for entry in self.manifest.formats:
            try:
                scorer = self._load(entry)
            except (MissingExtra, UnsupportedFormat) as refusal:
                refusals.append(refusal)
                logger.warning(
                    "the %s form of bundle %s is passed over: %s", entry.name, self.digest[:19], refusal.what
                )
                continue
            return Opened(scorer=scorer, form=entry.name, passed_over=tuple(each.what for each in refusals))
        if refusals:
            raise refusals[0]
        raise NotFound("format of this bundle", "", (), "It was saved without a model.")

    def _load(self, entry: FormatEntry) -> Scorer:
        if entry.trust and not self.trust:
            raise UnsupportedFormat(
                f"The bundle {self.digest[:19]} holds its model as a pickle, which runs code when it is loaded.",
                "Say load_bundle(store, digest, trust=True) if you trust its maker.",
            )
        form = format_named(entry.name)
        data = self.blobs.get(entry.digest)
        scorer = form.load(data, signature=self.manifest.signature, adapter=self.manifest.adapter)
        verify_golden(entry.golden or self.manifest.golden, scorer, entry.name)
        return scorer

    def verify(self) -> None:
        """Load every stored form and check it on the golden samples; raises like `scorer`."""
        for entry in self.manifest.formats:
            self._load(entry)

    def _entry(self, name: str) -> FormatEntry:
        entries = {entry.name: entry for entry in self.manifest.formats}
        if name not in entries:
            raise NotFound("format of this bundle", name, entries, "Bundles keep the fastest that passed parity.")
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
    formats: Sequence[str] | None = None,
    quantise: bool | float = False,
) -> Bundle:
    """Store a model with all that is needed to serve, check, watch and explain it.

    `rows` are real rows (training rows, usually; any frame): up to 2,000 of them decide whether a form answers like
    the original, all of them make the baseline. The bundle holds ONNX when it passes, otherwise the native form with
    the reason, otherwise (model or call with trust=True) a pickle; boosters and networks keep their native file in any
    case. `formats` names the forms to keep instead. `quantise` adds the ONNX graph with 8-bit weights, to be served
    when at least that share of decisions stays the same (True: 0.99); what it loses stands in the manifest.
    `environment` has python, platform and packages; it is captured when not given.

    Raises InvalidInput for rows the model cannot score or answers with NaN, UnsupportedFormat when no allowed format
    holds the model, NotFound for an unknown format.
    """
    frame = select(model.signature, flat_rows(rows))
    if not frame.height:
        raise InvalidInput("A bundle needs real rows, none were given.", "Give the rows the model was trained on.")
    scores = _score_all(model, frame)
    kept = Model.restored(
        model.estimator,
        signature=widen(model.signature, frame),
        adapter=model.adapter,
        trust=model.trust or trust,
    )
    encoded = encode_model(kept, frame, formats)
    quantised = quantise_model(kept, frame, encoded, float(quantise)) if quantise else None
    if quantised is not None and quantised.encoded is not None:
        encoded = [quantised.encoded, *encoded]
    manifest = Manifest(
        estimator=class_path(model.estimator),
        signature=kept.signature,
        adapter=kept.adapter,
        formats=[each.entry for each in encoded],
        quantisation=quantised.loss if quantised is not None else None,
        lock=_lock(environment),
        code_digest=code_digest,
        baseline=baseline_of(kept.signature, frame, scores),
        golden=golden_samples(kept, frame),
        facets=plain_facets(facets or {}),
    )
    data = encode_manifest(manifest)
    for each in encoded:
        store.blobs.put(each.data)
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
        scores = model.score(frame)
    except TidewheelError:
        raise
    except Exception as error:
        raise InvalidInput(
            f"{class_path(model.estimator)} cannot score the rows it is saved with: {error}",
            "Give rows like those it was fitted on, or put an imputer before it.",
        ) from error
    _check_answers(model, scores)
    return scores


def _check_answers(model: Model, scores: Scores) -> None:
    """Refuse probabilities that are NaN, and a model that gives no number at all; single numbers may be missing."""
    answers = scores.prediction if scores.probabilities is None else scores.probabilities
    if answers.dtype.kind != "f":
        return
    missing = int(np.isnan(answers).reshape(len(answers), -1).any(axis=1).sum())
    if missing == len(answers) or (missing and scores.probabilities is not None):
        raise InvalidInput(
            f"{class_path(model.estimator)} answers NaN to {missing:,} of the {len(answers):,} rows it is saved with.",
            "Fill missing values before it, and look for a division by zero or an exploded fit.",
        )


def _lock(environment: Mapping[str, Any] | None) -> Lock:
    if environment is None:
        here = capture_environment()
        return Lock(python=here.python, platform=here.platform, packages=dict(sorted(here.packages.items())))
    return Lock(
        python=str(environment.get("python", "")),
        platform=str(environment.get("platform", "")),
        packages={str(name): str(version) for name, version in sorted(dict(environment.get("packages", {})).items())},
    )
