"""Turn incoming rows into the next version: check, profile, keep the blobs, then write the graph in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import polars as pl
import sqlalchemy as sa

from tidewheel.clock import new_id
from tidewheel.data import tables
from tidewheel.data.conform import conform, settle
from tidewheel.data.findings import errors_of, ordered, warning
from tidewheel.data.records import DatasetVersion, Finding, Manifest, Schema, Segment
from tidewheel.data.schema import infer_schema
from tidewheel.data.segments import (
    MANIFEST_TYPE,
    keep_manifest,
    keep_profile,
    keep_rows,
    load_manifest,
    load_profile,
    packed,
)
from tidewheel.data.sources import Loaded
from tidewheel.data.validate import check_first, check_values
from tidewheel.database.transaction import Transaction
from tidewheel.errors import InvalidInput
from tidewheel.lineage.records import Entity, Version
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import add_version, append_event, finish_execution, link, start_execution
from tidewheel.stats.profile import Profile, logical_type, merge, profile_frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who brings rows to which dataset, and from where."""

    name: str  # dataset
    by: str  # who does it
    derived_from: tuple[str, ...]  # version ids that the rows were made from
    loaded: Loaded  # the rows as they came


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Rows in the types that are kept, their profile and what was found."""

    frame: pl.DataFrame  # the rows
    profile: Profile  # of these rows, on the edges of the dataset
    findings: list[Finding]  # errors first
    naive: list[str]  # columns of moments without time zone, taken as UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A version whose blobs are kept and whose rows in the graph are still to be written."""

    request: Request  # who and from where
    checked: Checked  # rows and findings
    segment: Segment  # what the rows became
    manifest: Manifest  # what the version will consist of
    digest: str  # digest of the manifest
    rows: int  # rows of the whole version


def check_new(loaded: Loaded, *, time: str | None, label: str | None) -> tuple[Checked, Schema]:
    """Return the rows of a first version, checked, and the schema they suggest."""
    settled = settle(loaded.frame, time=time, label=label)
    profile = profile_frame(settled.frame)
    schema = infer_schema(profile, time=time, label=label, details=_details(settled.frame))
    findings = ordered([*settled.findings, *check_first(profile, schema)])
    return Checked(frame=settled.frame, profile=profile, findings=findings, naive=settled.naive), schema


def check_next(loaded: Loaded, schema: Schema, so_far: Profile, newest: int | None, *, evolve: bool) -> Checked:
    """Return further rows checked against a schema and profiled on the edges of the rows so far.

    `newest` is the latest moment kept so far, in microseconds since 1970.
    """
    fitted = conform(loaded.frame, schema, evolve=evolve)
    if fitted.frame.width == 0:
        return Checked(frame=fitted.frame, profile=Profile(rows=0, columns={}), findings=fitted.findings, naive=[])
    profile = profile_frame(fitted.frame, edges_from=so_far)
    findings = [*fitted.findings, *check_values(fitted.frame, profile, schema)]
    findings += _late(fitted.frame, schema.time, newest)
    return Checked(frame=fitted.frame, profile=profile, findings=ordered(findings), naive=fitted.naive)


def prepare_first(store: Store, request: Request, checked: Checked, schema: Schema) -> Prepared:
    """Keep the blobs of a first version."""
    segment = keep_segment(store, request, checked, time=schema.time)
    manifest = Manifest(segments=[segment], profile=segment.profile, schema=schema)
    return Prepared(
        request=request,
        checked=checked,
        segment=segment,
        manifest=manifest,
        digest=keep_manifest(store.blobs, manifest),
        rows=segment.rows,
    )


def keep_segment(store: Store, request: Request, checked: Checked, *, time: str | None) -> Segment:
    """Keep the rows themselves; InvalidInput when not one of their columns belongs to the dataset."""
    if checked.frame.width == 0:
        raise InvalidInput(
            f"No column of the rows belongs to dataset {request.name!r}.", "Check that this is the right file."
        )
    return keep_rows(store.blobs, checked.frame, checked.profile, time=time)


def prepare_next(store: Store, request: Request, checked: Checked, head: Version, segment: Segment) -> Prepared:
    """Keep the blobs of the version that follows `head`; the rows so far are not read, their profile is merged."""
    before = load_manifest(store.blobs, head.digest)
    profile = merge(load_profile(store.blobs, before.profile), checked.profile)
    details = {column.name: column.detail for column in before.schema.columns} | _details(checked.frame)
    schema = infer_schema(profile, time=before.schema.time, label=before.schema.label, details=details)
    manifest = Manifest(
        segments=packed(store.blobs, [*before.segments, segment], schema),
        profile=keep_profile(store.blobs, profile),
        schema=schema,
    )
    return Prepared(
        request=request,
        checked=checked,
        segment=segment,
        manifest=manifest,
        digest=keep_manifest(store.blobs, manifest),
        rows=profile.rows,
    )


def commit(tx: Transaction, store: Store, entity: Entity, prepared: Prepared, head: Version | None) -> Version:
    """Write a prepared version with its ingestion, edges, findings and event."""
    request, checked, now = prepared.request, prepared.checked, store.clock.now()
    execution = _ingestion(tx, store, request)
    version = add_version(
        tx,
        entity.id,
        at=now,
        digest=prepared.digest,
        uri=request.loaded.uri,
        media_type=MANIFEST_TYPE,
        size=sum(segment.size for segment in prepared.manifest.segments),
        schema=msgspec.to_builtins(prepared.manifest.schema),
        facets={
            "rows": prepared.rows,
            "added": checked.frame.height,
            "segments": len(prepared.manifest.segments),
            "profile": prepared.manifest.profile,
            "naive_times": checked.naive,
        },
    )
    tx.execute(
        sa.insert(tables.segment).values(
            entity_id=entity.id, digest=prepared.segment.digest, version_id=version.id, rows=checked.frame.height
        )
    )
    link(tx, version.id, "generated", execution)
    if head is not None:
        link(tx, version.id, "supersedes", head.id)
    for source in request.derived_from:
        link(tx, version.id, "derived", source)
        link(tx, execution, "used", source)
    keep_validation(tx, store, request, checked, version_id=version.id, execution_id=execution)
    body = {"name": request.name, "seq": version.seq, "rows": prepared.rows, "added": checked.frame.height}
    event = "dataset.appended" if head is not None else "dataset.registered"
    append_event(tx, event, body, at=now, subject_id=version.id, execution_id=execution, by=request.by)
    finish_execution(tx, execution, at=now, state="SUCCEEDED", facets={"rows": checked.frame.height})
    return version


def refuse(tx: Transaction, store: Store, request: Request, checked: Checked, subject_id: str) -> None:
    """Keep the findings of rows that were refused, and nothing of the rows."""
    execution = _ingestion(tx, store, request)
    keep_validation(tx, store, request, checked, version_id="", execution_id=execution)
    errors = errors_of(checked.findings)
    body = {"name": request.name, "errors": len(errors), "codes": sorted({finding.code for finding in errors})}
    now = store.clock.now()
    append_event(tx, "dataset.refused", body, at=now, subject_id=subject_id, execution_id=execution, by=request.by)
    finish_execution(tx, execution, at=now, state="FAILED", error=f"{len(errors)} findings stop it")


def keep_validation(
    tx: Transaction, store: Store, request: Request, checked: Checked, *, version_id: str, execution_id: str
) -> None:
    """Keep the outcome of a check."""
    row = {
        "id": new_id(),
        "name": request.name,
        "version_id": version_id,
        "execution_id": execution_id,
        "at": store.clock.now(),
        "accepted": bool(version_id),
        "rows": request.loaded.frame.height,
        "findings": msgspec.to_builtins(checked.findings),
    }
    tx.execute(sa.insert(tables.validation).values(row))


def came_before(tx: Transaction, entity_id: str, segment: Segment) -> bool:
    """Say whether rows of exactly this content were kept in the dataset before."""
    table = tables.segment
    same = (table.c.entity_id == entity_id) & (table.c.digest == segment.digest)
    return tx.execute(sa.select(table.c.version_id).where(same).limit(1)).scalar() is not None


def dataset_version(name: str, version: Version) -> DatasetVersion:
    """Return the record of a version."""
    schema = msgspec.convert(version.schema, Schema)
    return DatasetVersion(
        name=name,
        seq=version.seq,
        version_id=version.id,
        digest=version.digest,
        rows=int(version.facets["rows"]),
        added=int(version.facets["added"]),
        segments=int(version.facets["segments"]),
        time=schema.time,
        label=schema.label,
        schema=schema,
        at=version.at,
    )


def _ingestion(tx: Transaction, store: Store, request: Request) -> str:
    parameters = {"source": request.loaded.uri, "form": request.loaded.form, "by": request.by}
    return start_execution(
        tx, kind="ingestion", job=request.name, at=store.clock.now(), owner=request.by, parameters=parameters
    ).id


def _details(frame: pl.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.schema.items() if logical_type(dtype) == "other"}


def _late(frame: pl.DataFrame, time: str | None, newest: int | None) -> Sequence[Finding]:
    if time is None or newest is None or time not in frame.columns:
        return []
    late = int((frame[time].to_physical() < newest).sum() or 0)
    if not late:
        return []
    message = f"{late} of {frame.height} rows happened before rows that were kept earlier; reading sorts them in."
    return [warning(time, "late", "later than what is kept", f"{late} earlier rows", message)]
