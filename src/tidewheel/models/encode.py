"""Choose the form a model is stored in: the fastest that answers like the original on real rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from tidewheel.blobs.store import digest_of
from tidewheel.errors import InvalidInput, NotFound, UnsupportedFormat
from tidewheel.models.estimator import class_path
from tidewheel.models.format import ModelFormat
from tidewheel.models.manifest import FormatEntry
from tidewheel.models.model import Model
from tidewheel.models.onnx_format import OnnxFormat
from tidewheel.models.parity import Parity, check_parity, describe
from tidewheel.models.pickle_format import PickleFormat
from tidewheel.models.skops_format import SkopsFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A model in the form that was chosen."""

    entry: FormatEntry  # what the manifest says about it
    data: bytes  # the form itself


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    data: bytes  # one encoding
    parity: Parity | None  # how it compared; None when it could not be scored at all
    reason: str  # why it was refused, "" when it passed


def formats() -> tuple[ModelFormat, ...]:
    """All formats, the fastest to score first."""
    return (OnnxFormat(), SkopsFormat(), PickleFormat())


def format_named(name: str) -> ModelFormat:
    """Return a format by the name in a manifest; NotFound for one that this version does not know."""
    known = {form.name: form for form in formats()}
    if name not in known:
        raise NotFound("model format", name, known, "Upgrade tidewheel if a newer one wrote the bundle.")
    return known[name]


def encode_model(model: Model, frame: pl.DataFrame) -> Encoded:
    """Return the model in the first format that passes parity on the rows, with why the faster ones did not.

    Raises UnsupportedFormat, listing each format's reason, when none holds it.
    """
    refusals: list[str] = []
    for form in formats():
        for trial in _trials(form, model, frame):
            if trial.parity is not None and trial.parity.passed:
                return Encoded(entry=_entry(form, trial.data, trial.parity, refusals), data=trial.data)
            refusals.append(f"{form.name}: {trial.reason}")
    raise UnsupportedFormat(
        f"No allowed format holds {class_path(model.estimator)}. {' '.join(dict.fromkeys(refusals))}",
        "Give Model(..., trust=True) to allow a pickle, which runs code when it is loaded, or use scikit-learn parts.",
    )


def _trials(form: ModelFormat, model: Model, frame: pl.DataFrame) -> Iterator[_Trial]:
    try:
        for data in form.candidates(model):
            yield _try(form, model, data, frame)
    except UnsupportedFormat as refusal:
        yield _Trial(data=b"", parity=None, reason=refusal.what)


def _try(form: ModelFormat, model: Model, data: bytes, frame: pl.DataFrame) -> _Trial:
    try:
        scorer = form.load(data, signature=model.signature, adapter=model.adapter)
        parity = check_parity(model, scorer, frame)
    except (UnsupportedFormat, InvalidInput) as refusal:
        return _Trial(data=data, parity=None, reason=refusal.what)
    return _Trial(data=data, parity=parity, reason="" if parity.passed else describe(parity))


def _entry(form: ModelFormat, data: bytes, parity: Parity, refusals: list[str]) -> FormatEntry:
    return FormatEntry(
        name=form.name,
        digest=digest_of(data),
        size=len(data),
        parity=parity,
        reason=" ".join(dict.fromkeys(refusals)),
        trust=form.name == PickleFormat.name,
    )
