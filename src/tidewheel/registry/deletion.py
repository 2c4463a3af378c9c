"""Delete versions and take deletions back; the payload goes later, with the collector."""

from __future__ import annotations

from datetime import datetime, timedelta

from tidewheel.database.transaction import Transaction
from tidewheel.database.values import to_json
from tidewheel.errors import Conflict, CorruptBlob, InvalidInput, MissingBlob, NotFound
from tidewheel.lineage.read import find_entity, list_aliases, resolve
from tidewheel.lineage.records import Version
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event
from tidewheel.models.bundle import load_bundle
from tidewheel.registry.scope import Scope, moment, writing
from tidewheel.registry.traffic import current_traffic
from tidewheel.registry.versions import KIND, LIVE, ModelVersion, get_model, lock_model, model_version

DELETED = "DELETED"
KEEP_DAYS = 30.0


def delete_version(
    scope: Scope,
    name: str,
    seq: int,
    *,
    by: str,
    reason: str,
    force: bool = False,
    keep_days: float = KEEP_DAYS,
    at: datetime | None = None,
) -> ModelVersion:
    """Mark a version as deleted: nothing can load or promote it any more; its record, edges and events stay.

    A version younger than `keep_days` is deleted only with `force` and a reason. Deleting it again changes nothing.
    Inside the caller's transaction `at` must be given.

    Raises NotFound, Conflict for a version that an alias or the current traffic names or that is too young,
    InvalidInput for force without a reason.
    """
    when = moment(scope, at)
    if force and not reason.strip():
        raise InvalidInput("A deletion that is forced needs a reason.", "Say --reason, for the audit log.")
    with writing(scope) as tx:
        version = _locked(tx, name, seq)
        if version.state != LIVE:
            return model_version(name, version)
        _check_unused(tx, name, version)
        young = when - version.at < timedelta(days=keep_days)
        if young and not force:
            raise Conflict(
                f"{name}:{seq} was registered on {version.at:%Y-%m-%d}, and versions are kept for {keep_days:g} days.",
                "Wait, or say --force with a --reason.",
            )
        facets = dict(version.facets) | {"deleted": {"at": when.isoformat(), "by": by, "reason": reason}}
        _write(tx, version, DELETED, facets)
        body = {
            "model": name,
            "version": seq,
            "digest": version.digest,
            "reason": reason,
            "forced": young,
            "text": f"version {seq} of {name} deleted: {reason}",
        }
        append_event(tx, "model.deleted", body, at=when, subject_id=version.entity_id, by=by, governs=True)
        return model_version(name, resolve(tx, KIND, f"{name}:{seq}"))


def undelete_version(
    store: Store, name: str, seq: int, *, by: str, reason: str = "", at: datetime | None = None
) -> ModelVersion:
    """Let a deleted version live again, if the collector has not taken its payload; every byte of it is checked.

    Raises NotFound, Conflict when the payload is gone.
    """
    when = moment(store, at)
    found = get_model(store, f"{name}:{seq}", deleted=True)
    if found.deleted is None:
        return found
    _use_payload(store, found)
    with store.database.transaction() as tx:
        version = _locked(tx, name, seq)
        if version.state == LIVE:
            return model_version(name, version)
        facets = {key: value for key, value in version.facets.items() if key not in ("deleted", "collected")}
        _write(tx, version, LIVE, facets)
        body = {"model": name, "version": seq, "reason": reason, "text": f"version {seq} of {name} taken back"}
        append_event(tx, "model.undeleted", body, at=when, subject_id=version.entity_id, by=by, governs=True)
        return model_version(name, resolve(tx, KIND, f"{name}:{seq}"))


def _locked(tx: Transaction, name: str, seq: int) -> Version:
    lock_model(tx, find_entity(tx, KIND, name).id)
    return resolve(tx, KIND, f"{name}:{seq}")


def _check_unused(tx: Transaction, name: str, version: Version) -> None:
    held = sorted(alias for alias, holder in list_aliases(tx, version.entity_id).items() if holder == version.id)
    if held:
        raise Conflict(
            f"{name}:{version.seq} is {' and '.join(held)}.", "Move the alias away first: tidewheel models promote."
        )
    try:
        traffic = current_traffic(tx, name)
    except NotFound:
        return
    if version.seq in traffic.shares():
        raise Conflict(f"Traffic goes to {name}:{version.seq}.", "Promote another version first.")


def _use_payload(store: Store, found: ModelVersion) -> None:
    """Read every byte and put it again: a collector that is at work leaves alone what was used just now."""
    try:
        manifest = store.blobs.get(found.bundle_digest)
        store.blobs.put(manifest)
        for entry in load_bundle(store, found.bundle_digest).manifest.formats:
            store.blobs.put(store.blobs.get(entry.digest))
    except (MissingBlob, CorruptBlob) as error:
        raise Conflict(
            f"{found.reference} cannot be taken back: {error.what}", "Its payload is collected; train it again."
        ) from error


def _write(tx: Transaction, version: Version, state: str, facets: dict[str, object]) -> None:
    tx.run(
        "UPDATE version SET state = :state, facets = :facets WHERE id = :id",
        state=state,
        facets=to_json(facets),
        id=version.id,
    )
