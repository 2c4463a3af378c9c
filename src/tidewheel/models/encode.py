"""Choose the form a model is stored in: the fastest that answers like the original on real rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from tidewheel.blobs.store import digest_of
from tidewheel.errors import InvalidInput, MissingExtra, NotFound, UnsupportedFormat
from tidewheel.models.booster_format import BoosterFormat
from tidewheel.models.boosters import library_of
from tidewheel.models.estimator import class_path
from tidewheel.models.format import ModelFormat
from tidewheel.models.manifest import FormatEntry
from tidewheel.models.model import Model
from tidewheel.models.networks import is_network
from tidewheel.models.onnx_format import OnnxFormat
from tidewheel.models.onnx_trees import count_trees
from tidewheel.models.parity import Parity, check_parity, describe
from tidewheel.models.pickle_format import PickleFormat
from tidewheel.models.pt2_format import Pt2Format
from tidewheel.models.skops_format import SkopsFormat

SMALL = 20_000  # tree nodes up to which the native form of scikit-learn is kept beside ONNX: about 2 MB
QUANTISED = "onnx-int8"  # made from the ONNX form on request, never by conversion


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
    return (
        OnnxFormat(name=QUANTISED),
        OnnxFormat(),
        BoosterFormat(name="lightgbm"),
        BoosterFormat(name="xgboost"),
        Pt2Format(),
        SkopsFormat(),
        PickleFormat(),
    )


def format_named(name: str) -> ModelFormat:
    """Return a format by the name in a manifest; NotFound for one that this version does not know."""
    known = {form.name: form for form in formats()}
    if name not in known:
        raise NotFound("model format", name, known, "Upgrade tidewheel if a newer one wrote the bundle.")
    return known[name]


def formats_of(model: Model) -> list[ModelFormat]:
    """Return the formats that may hold a model, the fastest to score first."""
    library = library_of(model.estimator)
    own: str | None = "pt2" if is_network(model.estimator) else library
    names = ["onnx", own or "skops", "pickle"]
    return [format_named(name) for name in names]


def encode_model(model: Model, frame: pl.DataFrame, names: Sequence[str] | None = None) -> list[Encoded]:
    """Return the model in the formats that pass parity on the rows, the fastest first, with why others did not.

    That is the fastest that passes and, for boosters, networks and small models of scikit-learn, the native form beside
    it: exact, and what explanations and source are made from. A pickle is kept only where nothing else holds the
    model. `names` asks for certain formats instead: all of them that pass are returned.

    Raises UnsupportedFormat, listing each format's reason, when none holds it, NotFound for a format nobody knows.
    """
    wanted = formats_of(model) if names is None else [format_named(name) for name in names]
    native = names is None and (wanted[1].name != "skops" or _is_small(model.estimator))
    refusals: list[str] = []
    kept: list[Encoded] = []
    for form in wanted:
        if names is None and kept and not (native and form is wanted[1]):
            break  # a pickle, or skops of a large forest
        found = _first_alike(form, model, frame, refusals)
        if found is not None:
            kept.append(found)
    if kept:
        return kept
    raise UnsupportedFormat(
        f"No allowed format holds {class_path(model.estimator)}. {' '.join(dict.fromkeys(refusals))}",
        "Give Model(..., trust=True) to allow a pickle, which runs code when it is loaded, or use scikit-learn parts.",
    )


def _is_small(estimator: object) -> bool:
    trees = count_trees(estimator)
    return trees.forest + trees.boosting <= SMALL


def _first_alike(form: ModelFormat, model: Model, frame: pl.DataFrame, refusals: list[str]) -> Encoded | None:
    for trial in _trials(form, model, frame):
        if trial.parity is not None and trial.parity.passed:
            return Encoded(entry=_entry(form, trial.data, trial.parity, refusals), data=trial.data)
        refusals.append(f"{form.name}: {trial.reason}")
    return None


def _trials(form: ModelFormat, model: Model, frame: pl.DataFrame) -> Iterator[_Trial]:
    try:
        for data in form.candidates(model):
            yield _try(form, model, data, frame)
    except (UnsupportedFormat, MissingExtra) as refusal:
        yield _Trial(data=b"", parity=None, reason=refusal.what)


def _try(form: ModelFormat, model: Model, data: bytes, frame: pl.DataFrame) -> _Trial:
    try:
        scorer = form.load(data, signature=model.signature, adapter=model.adapter)
        parity = check_parity(model, scorer, frame)
    except (UnsupportedFormat, InvalidInput, MissingExtra) as refusal:
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
