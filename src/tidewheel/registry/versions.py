"""Model versions: registered once, never changed, found by name, number or alias."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from tidewheel.database.transaction import Transaction
from tidewheel.errors import InvalidInput
from tidewheel.lineage.read import find_entity, get_execution, get_version, list_entities, resolve
from tidewheel.lineage.read import list_versions as versions_of
from tidewheel.lineage.records import Version
from tidewheel.lineage.write import add_version, append_event, ensure_entity, link
from tidewheel.models.bundle import Bundle
from tidewheel.models.manifest import MEDIA_TYPE
from tidewheel.registry.scope import Scope, moment, reading, writing

KIND = "model"
_OWN = ("metrics", "run_id", "dataset_version_id", "format", "format_reason", "estimator", "task", "code_digest", "by")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A registered bundle; what it names never changes."""

    name: str  # name of the model
    seq: int  # 1, 2, 3 ... within the model
    version_id: str  # id of the version in the graph
    bundle_digest: str  # sha256:<hex> of the bundle's manifest
    metrics: Mapping[str, float]  # what it scored on held-out rows when it was made
    run_id: str  # the run that made it, or ""
    dataset_version_id: str  # the dataset version it was made from, or ""
    format: str  # the form it is stored in: onnx, skops or pickle
    format_reason: str  # why not in a faster form, or ""
    estimator: str  # class of the estimator
    task: str  # binary, multiclass or regression
    at: datetime  # when it was registered
    by: str  # who or what registered it
    facets: Mapping[str, Any]  # the caller's own facts: why it was made, and the like

    @property
    def reference(self) -> str:
        """Return `name:seq`, as every verb takes it."""
        return f"{self.name}:{self.seq}"


def register_model(
    scope: Scope,
    name: str,
    bundle: Bundle,
    *,
    run_id: str = "",
    dataset_version_id: str = "",
    metrics: Mapping[str, float] | None = None,
    by: str = "",
    facets: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> ModelVersion:
    """Record a stored bundle as the next version of a model, with its edges and a governing event.

    Registering the same bundle of the same run again returns the version it has: a resumed run does no harm.
    Inside the caller's transaction (`scope` is a connection) `at` must be given.

    Raises NotFound for an unknown run or dataset version, InvalidInput for a name or facet that cannot be kept.
    """
    when = moment(scope, at)
    own = set(facets or {}).intersection(_OWN)
    if own:
        raise InvalidInput(f"Facets may not be called {', '.join(sorted(own))}.", "The registry keeps those itself.")
    with writing(scope) as tx:
        entity = ensure_entity(tx, KIND, name, at=when)
        run = get_execution(tx, run_id).id if run_id else ""
        data = get_version(tx, dataset_version_id).id if dataset_version_id else ""
        known = _registered(tx, entity.id, bundle.digest, run)
        if known is not None:
            return _model_version(name, known)
        facts = _facts(bundle, metrics)
        version = add_version(
            tx,
            entity.id,
            at=when,
            digest=bundle.digest,
            media_type=MEDIA_TYPE,
            size=bundle.size,
            schema=msgspec.to_builtins(bundle.manifest.signature),
            facets={**(facets or {}), **facts, "run_id": run, "dataset_version_id": data, "by": by},
        )
        if run:
            link(tx, version.id, "generated", run, role="model")
        if data:
            link(tx, version.id, "derived", data, role="rows")
        _tell(tx, name, entity.id, version, facts, run=run, by=by)
        return _model_version(name, version)


def get_model(scope: Scope, reference: str) -> ModelVersion:
    """Return the version that `bikes@champion`, `bikes:3` or `bikes` (the newest) means; NotFound with near names."""
    with reading(scope) as tx:
        version = resolve(tx, KIND, reference)
    return _model_version(re.split("[:@]", reference, maxsplit=1)[0], version)


def list_models(scope: Scope) -> list[str]:
    """Return the names of all models that have a version, in order."""
    with reading(scope) as tx:
        return [entity.name for entity in list_entities(tx, KIND) if versions_of(tx, entity.id, limit=1)]


def list_versions(scope: Scope, name: str, *, limit: int | None = None) -> list[ModelVersion]:
    """Return the versions of a model, newest first; NotFound, with near names, for an unknown model."""
    with reading(scope) as tx:
        found = versions_of(tx, find_entity(tx, KIND, name).id, limit=limit)
    return [_model_version(name, version) for version in found]


def _registered(tx: Transaction, entity_id: str, digest: str, run: str) -> Version | None:
    if not run:
        return None
    same = (item for item in versions_of(tx, entity_id) if item.digest == digest and item.facets.get("run_id") == run)
    return next(same, None)


def _facts(bundle: Bundle, metrics: Mapping[str, float] | None) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "metrics": {key: float(value) for key, value in (metrics or {}).items()},
        "format": manifest.formats[0].name,
        "format_reason": manifest.formats[0].reason,
        "estimator": manifest.estimator,
        "task": manifest.signature.task,
        "code_digest": manifest.code_digest,
    }


def _tell(
    tx: Transaction, name: str, entity_id: str, version: Version, facts: Mapping[str, Any], *, run: str, by: str
) -> None:
    body = {
        "model": name,
        "version": version.seq,
        "digest": version.digest,
        "text": f"version {version.seq} of {name} registered",
        **facts,
    }
    append_event(
        tx, "model.registered", body, at=version.at, subject_id=entity_id, execution_id=run, by=by, governs=True
    )


def _model_version(name: str, version: Version) -> ModelVersion:
    facets = version.facets
    texts = {key: str(facets.get(key, "")) for key in _OWN if key not in ("metrics", "code_digest")}
    return ModelVersion(
        name=name,
        seq=version.seq,
        version_id=version.id,
        bundle_digest=version.digest,
        metrics={key: value for key, value in facets.get("metrics", {}).items() if value is not None},
        at=version.at,
        facets={key: value for key, value in facets.items() if key not in _OWN},
        **texts,
    )
