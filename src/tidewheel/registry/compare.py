"""What changed between two versions of a model: metrics, signature, data, code and environment."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.errors import NotFound, TidewheelError
from tidewheel.evaluation.compare import align_both, compare_answers
from tidewheel.evaluation.metrics import metrics_of
from tidewheel.lineage.read import get_execution, get_version
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import Bundle, load_bundle
from tidewheel.models.frames import to_polars
from tidewheel.models.manifest import Manifest
from tidewheel.models.scorer import Scorer
from tidewheel.models.signature import Field, Signature, select
from tidewheel.pipelines.cache import code_parts
from tidewheel.registry.versions import ModelVersion, get_model
from tidewheel.stats.profile import ColumnProfile, Profile

ASKED = 50  # times that each version is asked for one row; the shortest counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something had one value and has another."""

    name: str  # what: a metric, a field, a package
    before: Any  # in the first version; None when it was not there
    after: Any  # in the second version; None when it is gone
    breaking: bool = False  # whether callers of the first version would notice: only said of the signature


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How much better the second version is on rows that both have scored."""

    metric: str  # what was measured
    before: float  # the first version's
    after: float  # the second version's
    difference: float  # positive where the second is better, whatever the metric's direction
    low: float  # lower bound of the difference, 95 %
    high: float  # upper bound
    n: int  # rows


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
    code: tuple[Change, ...] = ()  # functions, classes and packages whose digests differ, where the runs are known
    parameters: tuple[Change, ...] = ()  # parameters of the runs that differ
    paired: tuple[PairedDifference, ...] = ()  # metrics on the same rows, where rows were given
    size: Change  # bytes of the bundles
    latency: Change | None = None  # microseconds for one row, in this process, where both can be loaded

    @property
    def breaking(self) -> bool:
        """Whether callers of the first version would notice."""
        return any(change.breaking for change in self.signature)


def compare_versions(
    store: Store, before: str, after: str, *, rows: Any = None, label: str = "", timed: bool = False
) -> VersionComparison:
    """Compare two versions by reference: `bikes:4`, `bikes@champion`, or versions of two models; deleted ones too.

    With `rows` (a frame) and the name of its `label` column, the metrics of both are compared on them, row by row. With
    `timed` both are loaded and asked for one row.

    Raises NotFound for an unknown version or column, MissingBlob or CorruptBlob when a manifest is gone or damaged.
    """
    first, second = get_model(store, before, deleted=True), get_model(store, after, deleted=True)
    bundles = load_bundle(store, first.bundle_digest), load_bundle(store, second.bundle_digest)
    old, new = (bundle.manifest for bundle in bundles)
    return VersionComparison(
        before=first,
        after=second,
        metrics=_changes(first.metrics, second.metrics, same=True),
        signature=signature_changes(old.signature, new.signature),
        datasets=_dataset_change(store, first, second),
        columns=column_shifts(old.baseline, new.baseline),
        environment=_changes(_environment(old), _environment(new)),
        code_changed=old.code_digest != new.code_digest,
        estimator=_change("estimator", old.estimator, new.estimator),
        code=_changes(*(_code(store, version) for version in (first, second))),
        parameters=_changes(*(_parameters(store, version) for version in (first, second))),
        paired=_paired(bundles, rows, label) if rows is not None else (),
        size=Change(name="size", before=bundles[0].size, after=bundles[1].size),
        latency=_latency(bundles) if timed else None,
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


def signature_changes(before: Signature, after: Signature) -> tuple[Change, ...]:
    """Return the fields, task and classes that differ, and whether callers would notice."""
    old, new = ({field.name: field for field in signature.fields} for signature in (before, after))
    names = [*old, *(name for name in new if name not in old)]
    fields = [
        Change(
            name=name,
            before=_said(old[name]) if name in old else None,
            after=_said(new[name]) if name in new else None,
            breaking=_breaks(old.get(name), new.get(name)),
        )
        for name in names
        if name not in old or name not in new or _said(old[name]) != _said(new[name])
    ]
    whole = [
        _change("task", before.task, after.task, breaking=True),
        _change("classes", before.classes, after.classes, breaking=True),
        _change("probabilities", before.probabilities, after.probabilities, breaking=before.probabilities),
        _change("target", before.target, after.target),
    ]
    return (*fields, *(item for item in whole if item is not None))


def _breaks(before: Field | None, after: Field | None) -> bool:
    """Whether a request that fits a field before is refused after: new, gone, of a narrower kind, or no longer null."""
    if before is None or after is None:
        return True
    widened = before.kind == after.kind or (before.kind, after.kind) == ("int", "float")
    return not widened or (before.nullable and not after.nullable)


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


def _change(name: str, before: Any, after: Any, *, breaking: bool = False) -> Change | None:
    return Change(name=name, before=before, after=after, breaking=breaking) if before != after else None


def _code(store: Store, version: ModelVersion) -> dict[str, str]:
    """Return the digests of the functions, classes and packages that the steps of the version's run were made of."""
    if not version.run_id:
        return {}
    with store.database.reading() as tx:
        steps = tx.rows("SELECT code_digest FROM execution WHERE id = :run OR parent_id = :run", run=version.run_id)
        parts: dict[str, str] = {}
        for digest in {row["code_digest"] for row in steps}:
            parts |= code_parts(tx, digest)
    return parts


def _parameters(store: Store, version: ModelVersion) -> dict[str, Any]:
    if not version.run_id:
        return {}
    with store.database.reading() as tx:
        return dict(get_execution(tx, version.run_id).parameters)


def _paired(bundles: tuple[Bundle, Bundle], rows: Any, label: str) -> tuple[PairedDifference, ...]:
    """Let both score the same rows and compare every metric of the task that is defined there."""
    frame = to_polars(rows)
    if label not in frame.columns:
        raise NotFound("column", label, frame.columns, "Name the column of the labels.")
    old, new = (bundle.manifest.signature for bundle in bundles)
    if old.task != new.task:
        return ()
    scores = [bundle.scorer().score(select(bundle.manifest.signature, frame)) for bundle in bundles]
    both = align_both(
        frame[label].to_numpy(), (scores[1], scores[0]), task=old.task, classes=(new.classes, old.classes)
    )
    compared = [(metric.name, compare_answers(metric, both)) for metric in metrics_of(old.task)]
    return tuple(
        PairedDifference(
            metric=name,
            before=found.champion,
            after=found.candidate,
            difference=found.difference,
            low=found.low,
            high=found.high,
            n=found.n,
        )
        for name, found in compared
        if not isinstance(found, str)
    )


def _latency(bundles: tuple[Bundle, Bundle]) -> Change | None:
    times: list[float] = []
    for bundle in bundles:
        if not bundle.manifest.golden.rows:
            return None
        try:
            scorer = bundle.scorer()
        except TidewheelError:
            return None  # a pickle without trust, or a library that is not installed
        row = bundle.manifest.golden.rows[:1]
        times.append(min(_timed(scorer, row) for _ in range(ASKED)))
    return Change(name="latency", before=times[0], after=times[1])


def _timed(scorer: Scorer, row: list[list[Any]]) -> float:
    started = time.perf_counter()
    scorer.score_rows(row)
    return (time.perf_counter() - started) * 1e6
