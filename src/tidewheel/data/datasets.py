"""Datasets: register, append, read and look up versions with their profile, schema and findings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl
import sqlalchemy as sa

from tidewheel.clock import micros
from tidewheel.data import ingest, tables
from tidewheel.data.findings import errors_of, refusal
from tidewheel.data.records import DatasetVersion, Finding, Manifest, Schema, Segment, Validation
from tidewheel.data.segments import joined, load_manifest, load_profile, load_rows
from tidewheel.data.sources import load
from tidewheel.database.transaction import Transaction
from tidewheel.errors import Conflict, InvalidInput
from tidewheel.lineage.read import find_entity, list_entities, list_versions, resolve
from tidewheel.lineage.records import Entity, Version
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import check_name, ensure_entity
from tidewheel.stats.profile import Profile

ATTEMPTS = 20


class _Overtaken(Conflict):
    """Another version landed between reading the newest one and writing the next."""


def register(
    store: Store,
    name: str,
    source: Any,
    *,
    time: str | None = None,
    label: str | None = None,
    owner: str = "",
    by: str = "",
    derived_from: Sequence[str] = (),
    strict: bool = True,
) -> DatasetVersion:
    """Keep a file (.csv, .tsv, .parquet, .jsonl) or frame as version 1 of a new dataset.

    `time` names the column that says when a row happened, `label` the one to be predicted; `derived_from` are ids of
    the versions that the rows were made from. Moments without time zone are taken as UTC, which a finding then says.

    Raises Conflict when the name is taken, NotFound for a missing file or column, InvalidInput for what cannot be read,
    and ValidationFailed, after keeping the findings, for infinite numbers, a label with one value or rows without time.
    With `strict=False` such rows are kept all the same.
    """
    check_name("dataset", name)
    with store.database.reading() as tx:
        _check_free(tx, name)
    request = ingest.Request(name=name, by=by, derived_from=tuple(derived_from), loaded=load(source))
    checked, schema = ingest.check_new(request.loaded, time=time, label=label)
    if strict and errors_of(checked.findings):
        with store.database.transaction() as tx:
            ingest.refuse(tx, store, request, checked, subject_id="")
        raise refusal(name, checked.findings, mend="Mend the rows and register again; nothing of them was kept.")
    prepared = ingest.prepare_first(store, request, checked, schema)
    with store.database.transaction() as tx:
        _check_free(tx, name)
        facets = {"owner": owner, "time": time, "label": label}
        entity = ensure_entity(tx, "dataset", name, at=store.clock.now(), facets=facets)
        version = ingest.commit(tx, store, entity, prepared, None)
        if version.seq != 1:
            raise _taken(name)
    return ingest.dataset_version(name, version)


def append(
    store: Store,
    name: str,
    source: Any,
    *,
    by: str = "",
    derived_from: Sequence[str] = (),
    strict: bool = True,
    evolve: bool = False,
) -> DatasetVersion:
    """Check rows against the schema of a dataset and keep them as its next version.

    Rows of exactly the same content as an earlier append change nothing: the newest version is returned. Rows so far
    are not read again. A new column is left out with a warning, or taken in with `evolve`. Two processes may append at
    once: both land, one after the other.

    Raises NotFound for an unknown dataset or file, InvalidInput for what cannot be read, Conflict when others append
    without pause, and ValidationFailed, after keeping the findings, when the rows do not fit. With `strict=False` rows
    are kept in spite of errors, but for mistyped columns.
    """
    with store.database.reading() as tx:
        entity, head = _newest(tx, name)
    texts = [column.name for column in _schema_of(head).columns if column.type == "string"]
    loaded = load(source, texts=texts, known=True)
    request = ingest.Request(name=name, by=by, derived_from=tuple(derived_from), loaded=loaded)
    for _ in range(ATTEMPTS):
        with store.database.reading() as tx:
            entity, head = _newest(tx, name)
        checked = _checked(store, request, head, evolve=evolve)
        if _refused(checked, strict=strict):
            with store.database.transaction() as tx:
                ingest.refuse(tx, store, request, checked, subject_id=head.id)
            raise _not_fitting(request, checked)
        segment = ingest.keep_segment(store, request, checked, time=_schema_of(head).time)
        with store.database.reading() as tx:
            if ingest.came_before(tx, entity.id, segment):
                return ingest.dataset_version(name, _newest(tx, name)[1])
        prepared = ingest.prepare_next(store, request, checked, head, segment)
        try:
            with store.database.transaction() as tx:
                return _commit_next(tx, store, entity, prepared, head)
        except _Overtaken:
            continue
    raise Conflict(
        f"Dataset {name!r} was extended by others {ATTEMPTS} times while these rows were waiting.",
        "Append larger batches, or let one process do it.",
    )


def append_in(
    tx: Transaction,
    store: Store,
    name: str,
    source: Any,
    *,
    by: str = "",
    derived_from: Sequence[str] = (),
    strict: bool = True,
) -> DatasetVersion:
    """Append inside the caller's transaction, so that rows and the caller's progress are kept together or not at all.

    The same content twice is kept twice: the caller's transaction sees to exactly once. Otherwise as `append`, except
    that when ValidationFailed is raised the findings are kept only if the caller then calls `keep_refusal`. Raises
    Conflict when another version lands meanwhile (PostgreSQL): roll back and try again.
    """
    entity, head = _newest(tx, name)
    texts = [column.name for column in _schema_of(head).columns if column.type == "string"]
    loaded = load(source, texts=texts, known=True)
    request = ingest.Request(name=name, by=by, derived_from=tuple(derived_from), loaded=loaded)
    checked = _checked(store, request, head, evolve=False)
    if _refused(checked, strict=strict):
        raise _not_fitting(request, checked)
    segment = ingest.keep_segment(store, request, checked, time=_schema_of(head).time)
    prepared = ingest.prepare_next(store, request, checked, head, segment)
    return _commit_next(tx, store, entity, prepared, head)


def keep_refusal(store: Store, name: str, source: Any, *, by: str = "") -> list[Finding]:
    """Keep the findings of rows that `append_in` refused, in a transaction of its own, and return them."""
    with store.database.reading() as tx:
        head = _newest(tx, name)[1]
    request = ingest.Request(name=name, by=by, derived_from=(), loaded=load(source, known=True))
    checked = _checked(store, request, head, evolve=False)
    with store.database.transaction() as tx:
        ingest.refuse(tx, store, request, checked, subject_id=head.id)
    return checked.findings


def read(store: Store, reference: str, *, last: int | None = None, before: datetime | None = None) -> pl.DataFrame:
    """Return the rows of `name` (newest version), `name:3` or `name@alias`, in the order of its time column if any.

    `last` keeps only so many of the latest rows, `before` only those that happened before a moment (aware). Segments
    that cannot hold such rows are not opened; each one opened is checked against its digest.

    Raises NotFound, InvalidInput for a naive moment, `last` below 1 or `before` without time column, CorruptBlob.
    """
    if last is not None and last < 1:
        raise InvalidInput(f"The last {last} rows were asked for.", "Ask for 1 or more.")
    manifest = _manifest(store, reference)
    time = manifest.schema.time
    limit = None if before is None else _limit(before, time, reference)
    segments = _needed(manifest.segments, last, limit) or manifest.segments[:1]
    frame = joined([load_rows(store.blobs, segment) for segment in segments], manifest.schema)
    if time is not None and not frame[time].is_sorted():
        frame = frame.sort(time, maintain_order=True)
    if limit is not None and time is not None:
        frame = frame.filter(frame[time].to_physical() < limit)
    return frame if last is None else frame.tail(last)


def get(store: Store, reference: str) -> DatasetVersion:
    """Return the version that `name`, `name:3` or `name@alias` means; raises NotFound with near names."""
    with store.database.reading() as tx:
        version = resolve(tx, "dataset", reference)
    return ingest.dataset_version(_name(reference), version)


def list_datasets(store: Store) -> list[DatasetVersion]:
    """Return the newest version of every dataset, by name."""
    with store.database.reading() as tx:
        newest = [(entity.name, list_versions(tx, entity.id, limit=1)) for entity in list_entities(tx, "dataset")]
    return [ingest.dataset_version(name, versions[0]) for name, versions in newest if versions]


def versions_of(store: Store, name: str, *, limit: int | None = None) -> list[DatasetVersion]:
    """Return the versions of a dataset, newest first; raises NotFound."""
    with store.database.reading() as tx:
        versions = list_versions(tx, find_entity(tx, "dataset", name).id, limit=limit)
    return [ingest.dataset_version(name, version) for version in versions]


def profile_of(store: Store, reference: str) -> Profile:
    """Return the profile of all rows of a version, merged from its segments; raises NotFound, CorruptBlob."""
    with store.database.reading() as tx:
        version = resolve(tx, "dataset", reference)
    return load_profile(store.blobs, str(version.facets["profile"]))


def schema_of(store: Store, reference: str) -> Schema:
    """Return the schema that rows after this version are checked against; raises NotFound."""
    return get(store, reference).schema


def validations_of(store: Store, name: str, *, limit: int = 20) -> list[Validation]:
    """Return what checks of rows for a dataset found, refused rows included, newest first."""
    table = tables.validation
    query = sa.select(table).where(table.c.name == name).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
    with store.database.reading() as tx:
        rows = tx.execute(query).all()
        if not rows:
            find_entity(tx, "dataset", name)
    return [
        Validation(
            name=row.name,
            version_id=row.version_id,
            execution_id=row.execution_id,
            at=row.at,
            rows=row.rows,
            findings=tuple(msgspec.convert(row.findings, list[Finding])),
        )
        for row in rows
    ]


def findings_of(store: Store, reference: str) -> list[Finding]:
    """Return what the check of a version found, errors first; for a bare name, of the last check, refused or not."""
    name = _name(reference)
    if reference == name:
        latest = validations_of(store, name, limit=1)
        return list(latest[0].findings) if latest else []
    with store.database.reading() as tx:
        version = resolve(tx, "dataset", reference)
        query = sa.select(tables.validation.c.findings).where(tables.validation.c.version_id == version.id)
        found = tx.execute(query).scalars().first()
    return msgspec.convert(found or [], list[Finding])


def _newest(tx: Transaction, name: str) -> tuple[Entity, Version]:
    if _name(name) != name:
        raise InvalidInput(f"{name!r} names a version; rows are appended to the dataset.", f"Use {_name(name)!r}.")
    entity = find_entity(tx, "dataset", name)
    return entity, resolve(tx, "dataset", name)


def _checked(store: Store, request: ingest.Request, head: Version, *, evolve: bool) -> ingest.Checked:
    manifest = load_manifest(store.blobs, head.digest)
    newest = max((segment.last for segment in manifest.segments if segment.last is not None), default=None)
    so_far = load_profile(store.blobs, manifest.profile)
    return ingest.check_next(request.loaded, manifest.schema, so_far, newest, evolve=evolve)


def _refused(checked: ingest.Checked, *, strict: bool) -> bool:
    errors = errors_of(checked.findings)
    return bool(errors) if strict else any(finding.code == "mistyped" for finding in errors)


def _not_fitting(request: ingest.Request, checked: ingest.Checked) -> Exception:
    mend = "Mend the rows and append again; nothing of them was kept."
    return refusal(request.name, checked.findings, mend=mend)


def _commit_next(
    tx: Transaction, store: Store, entity: Entity, prepared: ingest.Prepared, head: Version
) -> DatasetVersion:
    version = ingest.commit(tx, store, entity, prepared, head)
    if (
        version.seq != head.seq + 1
    ):  # the compare of compare-and-swap: the row of the entity is locked since add_version
        raise _Overtaken(
            f"Another version of dataset {entity.name!r} landed meanwhile.", "Roll back and append the rows again."
        )
    return ingest.dataset_version(entity.name, version)


def _check_free(tx: Transaction, name: str) -> None:
    if any(entity.name == name and list_versions(tx, entity.id, limit=1) for entity in list_entities(tx, "dataset")):
        raise _taken(name)


def _taken(name: str) -> Conflict:
    return Conflict(f"A dataset named {name!r} exists already.", "Append to it, or choose another name.")


def _schema_of(version: Version) -> Schema:
    return msgspec.convert(version.schema, Schema)


def _manifest(store: Store, reference: str) -> Manifest:
    with store.database.reading() as tx:
        version = resolve(tx, "dataset", reference)
    return load_manifest(store.blobs, version.digest)


def _name(reference: str) -> str:
    return reference.split("@", 1)[0].split(":", 1)[0]


def _limit(before: datetime, time: str | None, reference: str) -> int:
    if time is None:
        raise InvalidInput(
            f"Rows of {reference!r} before a moment were asked for, and it has no time column.",
            "Register the dataset with time='COLUMN'.",
        )
    if before.tzinfo is None:
        raise InvalidInput(f"The moment {before} has no time zone.", "Use datetime.now(UTC) or add tzinfo=UTC.")
    return micros(before.astimezone(UTC))


def _needed(segments: Sequence[Segment], last: int | None, limit: int | None) -> list[Segment]:
    """Return the segments that can hold the rows asked for, in order."""
    kept = [s for s in segments if limit is None or s.first is None or s.first < limit]
    if last is None or limit is not None or not _in_order(kept):
        return kept
    rows = 0
    for index in range(len(kept) - 1, -1, -1):
        rows += kept[index].rows
        if rows >= last:
            return kept[index:]
    return kept


def _in_order(segments: Sequence[Segment]) -> bool:
    """Say whether no segment holds rows from before the end of the one before; without time column that is so."""
    return all(a.last is None or b.first is None or a.last <= b.first for a, b in pairwise(segments))
