"""Model versions: immutable, each a bundle with the run and the data behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from tidewheel.lineage.read import find_entity, list_entities, resolve
from tidewheel.lineage.read import list_versions as versions_of
from tidewheel.lineage.records import Version
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import add_version, append_event, ensure_entity, link
from tidewheel.models.bundle import Bundle

MEDIA_TYPE = "application/vnd.tidewheel.bundle+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A registered model; what it names never changes."""

    name: str  # of the model
    seq: int  # 1, 2, 3 ...
    version_id: str  # id in the graph
    bundle_digest: str  # sha256:<hex> of the bundle's manifest
    metrics: Mapping[str, float]  # measured before it was registered, on held-out rows
    run_id: str  # the run that made it, "" when it came from elsewhere
    dataset_version_id: str  # the data it learned from, "" when unknown
    facets: Mapping[str, Any]  # why it was made, and the like
    at: datetime  # when it was registered


def register_model(
    store: Store,
    name: str,
    bundle: Bundle,
    *,
    run_id: str = "",
    dataset_version_id: str = "",
    metrics: Mapping[str, float] | None = None,
    by: str = "",
    facets: Mapping[str, Any] | None = None,
) -> ModelVersion:
    """Record a bundle as the next version of a model, linked to the run and the data behind it.

    Raises InvalidInput for a name that cannot be kept.
    """
    at = store.clock.now()
    kept = dict(facets or {}) | {
        "metrics": dict(metrics or {}),
        "run_id": run_id,
        "dataset_version_id": dataset_version_id,
    }
    with store.database.transaction() as tx:
        entity = ensure_entity(tx, "model", name, at=at)
        version = add_version(
            tx, entity.id, at=at, digest=bundle.digest, media_type=MEDIA_TYPE, size=bundle.size, facets=kept
        )
        if run_id:
            link(tx, version.id, "generated", run_id, role="model")
        if dataset_version_id:
            link(tx, version.id, "derived", dataset_version_id, role="rows")
        body = {
            "model": name,
            "version": version.seq,
            "digest": bundle.digest,
            "metrics": dict(metrics or {}),
            "text": f"version {version.seq} of {name} registered",
        }
        append_event(
            tx, "model.registered", body, at=at, subject_id=entity.id, execution_id=run_id, by=by, governs=True
        )
    return _model_version(name, version)


def get_model(store: Store, reference: str) -> ModelVersion:
    """Return the version that `name` (newest), `name:3` or `name@champion` means; NotFound with near names."""
    with store.database.reading() as tx:
        return model_in(tx, reference)


def model_in(tx: Connection, reference: str) -> ModelVersion:
    """Return what `get_model` does, in the caller's transaction."""
    name = re.split("[:@]", reference, maxsplit=1)[0]
    return _model_version(name, resolve(tx, "model", reference))


def list_models(store: Store) -> list[str]:
    """Return the names of all models that have a version."""
    with store.database.reading() as tx:
        return [entity.name for entity in list_entities(tx, "model") if versions_of(tx, entity.id, limit=1)]


def list_versions(store: Store, name: str, *, limit: int | None = None) -> list[ModelVersion]:
    """Return the versions of a model, newest first; raises NotFound for an unknown model."""
    with store.database.reading() as tx:
        found = versions_of(tx, find_entity(tx, "model", name).id, limit=limit)
    return [_model_version(name, version) for version in found]


def _model_version(name: str, version: Version) -> ModelVersion:
    facets = dict(version.facets)
    return ModelVersion(
        name=name,
        seq=version.seq,
        version_id=version.id,
        bundle_digest=version.digest,
        metrics=facets.pop("metrics", {}),
        run_id=facets.pop("run_id", ""),
        dataset_version_id=facets.pop("dataset_version_id", ""),
        facets=facets,
        at=version.at,
    )
