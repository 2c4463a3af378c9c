"""What changed between two versions of a model: metrics, signature, data, code and environment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.lineage.read import get_version
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.models.manifest import Manifest
from tidewheel.models.signature import Field, Signature
from tidewheel.registry.versions import ModelVersion, get_model
from tidewheel.stats.profile import ColumnProfile, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something had one value and has another."""

    name: str  # what: a metric, a field, a package
    before: Any  # in the first version; None when it was not there
    after: Any  # in the second version; None when it is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnShift:
    """How one column of the training data moved."""

    name: str  # column, or `prediction` or `probability` for the model's own answers
    shift: float | None  # numbers: difference of means in standard deviations; categories: share of rows that moved
    missing: float  # change of the share of missing values, -1 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionComparison:
    """The differences between two versions, the largest data shifts first."""

    before: ModelVersion  # the first version
    after: ModelVersion  # the second version
    metrics: tuple[Change, ...]  # every metric that either version has
    signature: tuple[Change, ...]  # fields, task and classes that differ
    datasets: Change | None  # digests of the dataset versions, when they differ
    columns: tuple[ColumnShift, ...]  # columns that both baselines have
    environment: tuple[Change, ...]  # Python and packages that differ
    code_changed: bool  # whether the training code's closure differs
    estimator: Change | None  # class of the estimator, when it differs


def compare_versions(store: Store, before: str, after: str) -> VersionComparison:
    """Compare two versions by reference: `bikes:4`, `bikes@champion`, or versions of two models.

    Raises NotFound for an unknown version, MissingBlob or CorruptBlob when a manifest is gone or damaged.
    """
    first, second = get_model(store, before), get_model(store, after)
    old = load_bundle(store, first.bundle_digest).manifest
    new = load_bundle(store, second.bundle_digest).manifest
    return VersionComparison(
        before=first,
        after=second,
        metrics=_changes(first.metrics, second.metrics, same=True),
        signature=_signature_changes(old.signature, new.signature),
        datasets=_dataset_change(store, first, second),
        columns=column_shifts(old.baseline, new.baseline),
        environment=_changes(_environment(old), _environment(new)),
        code_changed=old.code_digest != new.code_digest,
        estimator=_change("estimator", old.estimator, new.estimator),
    )


def column_shifts(before: Profile, after: Profile) -> tuple[ColumnShift, ...]:
    """Compare the columns that two profiles share, the largest shift first."""
    shared = [name for name in before.columns if name in after.columns]
    shifts = [_column_shift(name, before.columns[name], after.columns[name]) for name in shared]
    return tuple(sorted(shifts, key=lambda item: (-abs(item.shift or 0.0), -abs(item.missing), item.name)))


def _column_shift(name: str, before: ColumnProfile, after: ColumnProfile) -> ColumnShift:
    missing = _share(after.missing, after.count) - _share(before.missing, before.count)
    if before.kind != after.kind:
        return ColumnShift(name=name, shift=None, missing=missing)
    shift = _mean_shift(before, after) if before.mean is not None else _moved(before, after)
    return ColumnShift(name=name, shift=shift, missing=missing)


def _mean_shift(before: ColumnProfile, after: ColumnProfile) -> float | None:
    if before.mean is None or after.mean is None:
        return None
    spread = math.sqrt(((before.variance or 0.0) + (after.variance or 0.0)) / 2)
    difference = after.mean - before.mean
    if difference == 0.0 or spread == 0.0:
        return 0.0 if difference == 0.0 else None
    return difference / spread


def _moved(before: ColumnProfile, after: ColumnProfile) -> float | None:
    """Total variation distance of the category shares: the share of rows that would have to change category."""
    old, new = (_shares(profile) for profile in (before, after))
    if not old or not new:
        return None
    distances = (abs(new.get(value, 0.0) - old.get(value, 0.0)) for value in {*old, *new})
    return sum(distances, 0.0) / 2


def _shares(profile: ColumnProfile) -> dict[str, float]:
    present = dict(zip(profile.categories, profile.cells[: len(profile.categories)], strict=True))
    total = sum(present.values())
    return {value: count / total for value, count in present.items()} if total else {}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _signature_changes(before: Signature, after: Signature) -> tuple[Change, ...]:
    old, new = ({field.name: _said(field) for field in signature.fields} for signature in (before, after))
    whole = [
        _change("task", before.task, after.task),
        _change("classes", before.classes, after.classes),
        _change("target", before.target, after.target),
    ]
    return (*_changes(old, new), *(item for item in whole if item is not None))


def _said(field: Field) -> str:
    return f"{field.kind} or null" if field.nullable else field.kind


def _environment(manifest: Manifest) -> dict[str, str]:
    return {"python": manifest.lock.python, **manifest.lock.packages}


def _dataset_change(store: Store, before: ModelVersion, after: ModelVersion) -> Change | None:
    with store.database.reading() as tx:
        digests = [
            get_version(tx, item.dataset_version_id).digest if item.dataset_version_id else None
            for item in (before, after)
        ]
    return _change("dataset", digests[0], digests[1])


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], *, same: bool = False) -> tuple[Change, ...]:
    names = [*before, *(name for name in after if name not in before)]
    found = [Change(name=name, before=before.get(name), after=after.get(name)) for name in names]
    return tuple(item for item in found if same or item.before != item.after)


def _change(name: str, before: Any, after: Any) -> Change | None:
    return Change(name=name, before=before, after=after) if before != after else None
