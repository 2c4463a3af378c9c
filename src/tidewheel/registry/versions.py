"""Model versions: registered once, never changed, found by name, number or alias."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from tidewheel.clock import micros
from tidewheel.database.transaction import Transaction
from tidewheel.database.values import from_json
from tidewheel.errors import Conflict, CorruptBlob, InvalidInput
from tidewheel.lineage.read import find_entity, get_execution, get_version, list_aliases, list_entities, resolve
from tidewheel.lineage.read import list_versions as versions_of
from tidewheel.lineage.records import Version
from tidewheel.lineage.write import add_version, append_event, ensure_entity, link
from tidewheel.models.bundle import Bundle
from tidewheel.models.manifest import MEDIA_TYPE
from tidewheel.registry.annotated import read_annotations
from tidewheel.registry.filter import read_filter
from tidewheel.registry.scope import Scope, moment, reading, writing

KIND = "model"
LIVE = "LIVE"
FAMILIES = ("tags", "metrics", "facets")
FILTERED = (
    "name",
    "version",
    "owner",
    "description",
    "alias",
    "state",
    "format",
    "task",
    "estimator",
    "by",
    "run",
    "dataset",
    "digest",
    "registered",
)
_OWN = ("metrics", "run_id", "dataset_version_id", "format", "format_reason", "estimator", "task", "code_digest", "by")
_LATER = ("deleted", "collected")  # what the registry and the collector write into a version afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """That a version was deleted; it can be taken back until its payload is collected."""

    at: datetime  # when
    by: str  # who or what did it
    reason: str  # why
    collected: str = ""  # when the collector took its payload, ISO 8601; empty: it can be undeleted


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
    deleted: Deleted | None = None  # when it was deleted, by whom and why; None while it lives

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
    own = set(facets or {}).intersection((*_OWN, *_LATER))
    if own:
        raise InvalidInput(f"Facets may not be called {', '.join(sorted(own))}.", "The registry keeps those itself.")
    with writing(scope) as tx:
        entity = ensure_entity(tx, KIND, name, at=when)
        lock_model(tx, entity.id)
        run = get_execution(tx, run_id).id if run_id else ""
        data = get_version(tx, dataset_version_id).id if dataset_version_id else ""
        known = _registered(tx, entity.id, bundle.digest, run)
        if known is not None:
            return model_version(name, known)
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
        return model_version(name, version)


def get_model(scope: Scope, reference: str, *, deleted: bool = False) -> ModelVersion:
    """Return the version that `bikes@champion`, `bikes:3` or `bikes` (the newest that lives) means.

    Every way to a bundle leads through here: the digest of the row must be the one that the audit log saw registered.

    Raises NotFound with near names, Conflict for a deleted version unless `deleted` is true, CorruptBlob for a row
    whose digest was changed.
    """
    name = re.split("[:@]", reference, maxsplit=1)[0]
    with reading(scope) as tx:
        version = resolve(tx, KIND, reference)
        if name == reference and version.state != LIVE and not deleted:
            version = next((each for each in versions_of(tx, version.entity_id) if each.state == LIVE), version)
        _check_digest(tx, name, version)
    found = model_version(name, version)
    if not deleted:
        _check_lives(found)
    return found


def live_version(tx: Transaction, name: str, seq: int) -> Version:
    """Return a version that something is about to point to; takes the model's lock, so that nobody deletes it first.

    Raises NotFound, Conflict for a deleted version.
    """
    lock_model(tx, find_entity(tx, KIND, name).id)
    version = resolve(tx, KIND, f"{name}:{seq}")
    _check_lives(model_version(name, version))
    return version


def lock_model(tx: Transaction, entity_id: str) -> None:
    """Wait until nobody else changes this model, and keep others waiting until the transaction ends."""
    tx.row(f"SELECT id FROM entity WHERE id = :id{tx.locking}", id=entity_id)  # noqa: S608 - a constant


def list_models(scope: Scope) -> list[str]:
    """Return the names of all models that have a version that lives, in order."""
    with reading(scope) as tx:
        rows = tx.rows(
            "SELECT n.name FROM entity n WHERE n.kind = :kind AND EXISTS"
            " (SELECT 1 FROM version v WHERE v.entity_id = n.id AND v.state = :live) ORDER BY n.name",
            kind=KIND,
            live=LIVE,
        )
    return [row["name"] for row in rows]


def list_versions(
    scope: Scope,
    name: str,
    *,
    limit: int | None = None,
    filter: str = "",  # noqa: A002 - the word of the command line and of MLflow
    deleted: bool = False,
) -> list[ModelVersion]:
    """Return the versions of a model, newest first, those deleted only with `deleted`; `filter` as `search_versions`.

    Raises NotFound, with near names, for an unknown model, InvalidInput for a filter that cannot be read.
    """
    with reading(scope) as tx:
        entity = find_entity(tx, KIND, name)
        found = versions_of(tx, entity.id, limit=limit if deleted and not filter else None)
        kept = [model_version(name, version) for version in found if deleted or version.state == LIVE]
        kept = _passing(tx, entity.id, kept, filter) if filter else kept
    return kept if limit is None else kept[:limit]


def search_versions(
    scope: Scope, wanted: str, *, limit: int | None = None, deleted: bool = False
) -> list[ModelVersion]:
    """Return the versions of all models that pass a filter, newest first within their model.

    The fields are `name`, `version`, `owner`, `description`, `alias`, `state`, `format`, `task`, `estimator`, `by`,
    `run`, `dataset`, `digest`, `registered`, and `tags.`, `metrics.`, `facets.` with a name. A version has the owner,
    description and tags of its model where it has none of its own. The language is that of `registry.filter`.

    Raises InvalidInput for a filter that cannot be read, NotFound for an unknown field.
    """
    read_filter(wanted, FILTERED, FAMILIES)  # what cannot be read is said also where there is no model yet
    found: list[ModelVersion] = []
    with reading(scope) as tx:
        for entity in list_entities(tx, KIND):
            versions = versions_of(tx, entity.id)
            kept = [model_version(entity.name, each) for each in versions if deleted or each.state == LIVE]
            found += _passing(tx, entity.id, kept, wanted)
    return found if limit is None else found[:limit]


def _passing(tx: Transaction, entity_id: str, versions: list[ModelVersion], wanted: str) -> list[ModelVersion]:
    passes = read_filter(wanted, FILTERED, FAMILIES)
    said = read_annotations(tx, entity_id)
    held = list_aliases(tx, entity_id)
    whole = said.get(0, {})
    found = []
    for version in versions:
        aliases = sorted(alias for alias, holder in held.items() if holder == version.version_id)
        if passes(_filtered(version, aliases) | whole | said.get(version.seq, {})):
            found.append(version)
    return found


def _filtered(version: ModelVersion, aliases: list[str]) -> dict[str, Any]:
    """Return what a filter can ask of a version, by field."""
    return {
        "name": version.name,
        "version": version.seq,
        "alias": aliases,
        "state": LIVE if version.deleted is None else "DELETED",
        "format": version.format,
        "task": version.task,
        "estimator": version.estimator,
        "by": version.by,
        "run": version.run_id,
        "dataset": version.dataset_version_id,
        "digest": version.bundle_digest,
        "registered": version.at.isoformat(),
        **{f"metrics.{name}": value for name, value in version.metrics.items()},
        **{f"facets.{name}": value for name, value in version.facets.items()},
    }


def _check_lives(version: ModelVersion) -> None:
    if version.deleted is None:
        return
    gone = version.deleted
    mend = f"Take it back with: tidewheel models undelete {version.name} {version.seq}"
    raise Conflict(
        f"{version.reference} was deleted by {gone.by or 'somebody'} at {gone.at:%Y-%m-%d %H:%M}: {gone.reason}",
        "Its payload is collected; train it again." if gone.collected else mend,
    )


def _check_digest(tx: Transaction, name: str, version: Version) -> None:
    """Compare a row with what the hash chain saw: a bundle is checked against its digest, this checks the digest."""
    told = tx.rows(
        "SELECT body FROM event WHERE subject_id = :entity AND type = 'model.registered' AND at = :at",
        entity=version.entity_id,
        at=micros(version.at),
    )
    bodies = (from_json(row["body"]) for row in told)
    digests = [body["digest"] for body in bodies if body.get("version") == version.seq]
    if version.digest not in digests:
        what = f"registered with {digests[0]}" if digests else "never registered"
        raise CorruptBlob(
            f"The row of {name}:{version.seq} names the bundle {version.digest}, but the audit log says it was {what}.",
            "Somebody changed the database: see tidewheel audit, and restore it from a backup.",
        )


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


def model_version(name: str, version: Version) -> ModelVersion:
    """Read a row of the graph as a model version."""
    facets = version.facets
    gone = facets.get("deleted") if version.state != LIVE else None
    texts = {key: str(facets.get(key, "")) for key in _OWN if key not in ("metrics", "code_digest")}
    return ModelVersion(
        name=name,
        seq=version.seq,
        version_id=version.id,
        bundle_digest=version.digest,
        metrics={key: value for key, value in facets.get("metrics", {}).items() if value is not None},
        at=version.at,
        facets={key: value for key, value in facets.items() if key not in _OWN and key not in _LATER},
        deleted=Deleted(
            at=datetime.fromisoformat(gone["at"]),
            by=gone["by"],
            reason=gone["reason"],
            collected=str(facets.get("collected", "")),
        )
        if gone
        else None,
        **texts,
    )
