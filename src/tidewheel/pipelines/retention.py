"""What is still needed: the runs that are kept, and every blob that anything kept names.

A blob is needed when its digest stands in a row that stays. Rows of every room count, also of rooms that come later:
only runs that are past their time, artifacts, and cache entries that no kept run has used are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tidewheel.blobs.store import BlobStore
from tidewheel.clock import micros
from tidewheel.database.schema import metadata
from tidewheel.database.transaction import Transaction, among
from tidewheel.database.values import from_json
from tidewheel.errors import CorruptBlob, InvalidInput, MissingBlob
from tidewheel.pipelines.executors.attempts import attempts_beside
from tidewheel.pipelines.stored import Stored, stored_from
from tidewheel.pipelines.transitions import DONE_STEP, RunState

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KEY = re.compile(r'"key":"([0-9a-f]{64})"')
_BUNDLE = re.compile(r'"blobs":\["(sha256:[0-9a-f]{64})"[^]]*\],"codec":"bundle"')
_CAPTURED = re.compile(r'"captured":"(sha256:[0-9a-f]{64})"')
_NEVER = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)  # runs that go on, or are still to begin
_OWN_TABLES = frozenset({"version", "execution", "edge", "event", "alias", "step_cache", "step_code", "outbox"})
_PART = 400  # values of one IN (...)
_LARGEST_MANIFEST = 50_000_000  # bytes; a larger blob is no manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The rules: a run is kept when one of them says so."""

    keep_days: float = 30.0  # days after its end for which a run, and after its making a cache entry, is kept
    keep_runs: int = 20  # newest runs of each pipeline that are kept however old they are
    grace: timedelta = timedelta(hours=1)  # time since its last use for which a blob is never deleted

    def __post_init__(self) -> None:
        """Refuse what is no rule."""
        if not 0 <= self.keep_days <= 36_500:
            raise InvalidInput(f"keep_days = {self.keep_days!r} cannot be.", "Give 0 or more days.")
        if isinstance(self.keep_runs, bool) or self.keep_runs < 0:
            raise InvalidInput(f"keep_runs = {self.keep_runs!r} cannot be.", "Give the number of runs: 0, 1, 2 ...")
        if self.grace < timedelta():
            raise InvalidInput("The grace period cannot be negative.", "Give 0 or more minutes.")


@dataclass(slots=True, kw_only=True)
class Needs:
    """One consistent view of what is needed and what is not."""

    kept: list[str] = field(default_factory=list)  # ids of the runs that stay as they are
    expired: list[str] = field(default_factory=list)  # ids of the runs whose payload goes
    alive: bool = False  # whether a run goes on
    marked: set[str] = field(default_factory=set)  # digests that are needed
    manifests: dict[str, str] = field(default_factory=dict)  # digests that name further ones, with their kind
    dropped: list[str] = field(default_factory=list)  # keys of cache entries that go
    versions: dict[str, tuple[str, ...]] = field(default_factory=dict)  # versions whose payload goes: their blobs
    models: set[str] = field(default_factory=set)  # those of them that are deleted models; others are of expired runs
    sources: set[str] = field(default_factory=set)  # records of captured sources of expired runs
    sent: int = 0  # messages for others that were delivered before the time kept
    attempts: list[str] = field(default_factory=list)  # manifests of workers that the journal has taken in long ago

    def mark(self, text: str) -> None:
        """Mark every digest that stands in a text."""
        self.marked.update(_DIGEST.findall(text))
        for manifest in (*_BUNDLE.findall(text), *_CAPTURED.findall(text)):
            self.manifests[manifest] = "kept"


def survey(tx: Transaction, blobs: BlobStore, rules: Retention, now: datetime) -> Needs:
    """Find out what is needed, in one reading transaction."""
    needs = Needs()
    before = micros(now - timedelta(days=rules.keep_days))
    forgotten = _deleted_models(tx, blobs, needs, before)
    _choose_runs(tx, needs, rules, before)
    _mark_executions(tx, needs, forgotten)
    _mark_versions(tx, needs)
    _mark_other_rooms(tx, needs)
    _mark_cache(tx, needs, before)
    _mark_unfinished(tx, blobs, needs, before)
    for manifest in [digest for digest, kind in needs.manifests.items() if kind == "kept"]:
        needs.marked.update(named_in(blobs, manifest))
    _list_expired(tx, needs)
    row = tx.row("SELECT COUNT(*) AS sent FROM outbox WHERE sent < :before", before=before)
    needs.sent = int(row["sent"]) if row else 0
    return needs


def named_in(blobs: BlobStore, digest: str) -> set[str]:
    """Return the digests that a manifest (bundle, dataset, sources of a run) names; none when it is gone."""
    try:
        data = blobs.get(digest)
    except (MissingBlob, CorruptBlob):
        return set()
    return set(_DIGEST.findall(data.decode("utf-8", "replace"))) if len(data) <= _LARGEST_MANIFEST else set()


def in_parts(values: Iterable[str]) -> Iterator[Sequence[str]]:
    """Return values in parts that fit into one statement."""
    wanted = list(values)
    for start in range(0, len(wanted), _PART):
        yield wanted[start : start + _PART]


def outputs_in(facets: Mapping[str, Any]) -> Iterator[Stored]:
    """Return every stored value that a run's or step's record names."""
    records = [*facets.get("outputs", ()), *facets.get("arguments", {}).values()]
    if facets.get("output"):
        records.append(facets["output"])
    for record in records:
        yield stored_from(record)


def _choose_runs(tx: Transaction, needs: Needs, rules: Retention, before: int) -> None:
    """Part the runs: those that go on, young ones, the newest of each pipeline, and those something named came from."""
    anchored = {
        row["id"]
        for row in tx.rows(
            "SELECT DISTINCT COALESCE(x.parent_id, x.id) AS id, e.src FROM edge e JOIN version v ON v.id = e.src"
            " JOIN entity n ON n.id = v.entity_id JOIN execution x ON x.id = e.dst"
            " WHERE e.relation = 'generated' AND n.kind NOT IN ('artifact', 'environment')"
        )
        if row["src"] not in needs.versions
    }
    seen: dict[str, int] = {}
    runs = tx.rows(
        "SELECT id, job, state, started, ended FROM execution WHERE kind = 'run' ORDER BY started DESC, id DESC"
    )
    for run in runs:
        seen[run["job"]] = seen.get(run["job"], 0) + 1
        goes_on = run["state"] in _NEVER
        needs.alive = needs.alive or goes_on
        young = (run["ended"] or run["started"]) >= before
        stays = goes_on or young or run["id"] in anchored or seen[run["job"]] <= rules.keep_runs
        (needs.kept if stays else needs.expired).append(run["id"])


def _deleted_models(tx: Transaction, blobs: BlobStore, needs: Needs, before: int) -> set[str]:
    """List the model versions that were deleted before the time kept, and return the bundles no living version has."""
    rows = tx.rows(
        "SELECT v.id, v.digest, v.facets FROM version v JOIN entity n ON n.id = v.entity_id"
        " WHERE n.kind = 'model' AND v.state = 'DELETED'"
    )
    forgotten: set[str] = set()
    for row in rows:
        facets = from_json(row["facets"])
        if micros(datetime.fromisoformat(facets["deleted"]["at"])) < before:
            needs.versions[row["id"]] = (row["digest"], *_forms(blobs, row["digest"]))
            needs.models.add(row["id"])
            forgotten.add(row["digest"])
    living = tx.rows("SELECT DISTINCT digest FROM version WHERE state = 'LIVE'")
    return forgotten - {row["digest"] for row in living}


def _forms(blobs: BlobStore, bundle: str) -> list[str]:
    """Return the digests of a bundle's stored forms; its manifest names further ones, as that of the code."""
    try:
        return [form["digest"] for form in from_json(blobs.get(bundle).decode()).get("formats", ())]
    except (MissingBlob, CorruptBlob, ValueError, AttributeError):
        return []


def _mark_executions(tx: Transaction, needs: Needs, forgotten: set[str]) -> None:
    for row in tx.rows("SELECT facets FROM execution WHERE kind NOT IN ('run', 'step')"):
        needs.mark(row["facets"])
    needs.marked -= forgotten  # an evaluation that names a bundle does not need it
    needs.manifests = {digest: kind for digest, kind in needs.manifests.items() if digest not in forgotten}
    keys: set[str] = set()
    for part in in_parts(needs.kept):
        found = among("id", part)
        query = f"SELECT facets FROM execution WHERE id IN ({found.sql}) OR parent_id IN ({found.sql})"  # noqa: S608 - names only
        for row in tx.rows(query, **found.values):
            needs.mark(row["facets"])
            keys.update(_KEY.findall(row["facets"]))
    needs.dropped = sorted(keys)  # for now: the keys that kept runs have used


def _mark_versions(tx: Transaction, needs: Needs) -> None:
    """Mark all but artifacts and deleted models; of artifacts, what a name or something other than a run points to."""
    named = tx.rows(
        "SELECT v.id, v.digest, v.media_type, v.facets FROM version v JOIN entity n ON n.id = v.entity_id"
        " WHERE n.kind NOT IN ('artifact', 'environment')"
    )
    named += tx.rows(
        "SELECT v.id, v.digest, v.media_type, v.facets FROM version v JOIN alias a ON a.version_id = v.id"
        " WHERE a.valid_to IS NULL"
    )
    named += tx.rows(
        "SELECT DISTINCT v.id, v.digest, v.media_type, v.facets FROM version v JOIN edge e ON e.dst = v.id"
        " JOIN execution x ON x.id = e.src WHERE x.kind NOT IN ('run', 'step')"
    )
    for row in named:
        if row["id"] in needs.versions:
            continue  # deleted long enough ago
        needs.marked.add(row["digest"])
        needs.mark(row["facets"])
        if row["media_type"].startswith("application/vnd.tidewheel."):
            needs.manifests[row["digest"]] = "kept"


def _mark_other_rooms(tx: Transaction, needs: Needs) -> None:
    """Mark every digest in the tables of all other rooms, whatever they mean there."""
    from sqlalchemy import String, Text

    from tidewheel.database.schema import Json

    for table in metadata.sorted_tables:
        columns = [column.name for column in table.columns if isinstance(column.type, String | Text | Json)]
        if table.name in _OWN_TABLES or not columns:
            continue
        quoted = ", ".join(f'"{name}"' for name in columns)
        for row in tx.rows(f'SELECT {quoted} FROM "{table.name}"'):  # noqa: S608 - names of our own tables
            needs.mark("\n".join(text for text in row.values() if text))


def _mark_cache(tx: Transaction, needs: Needs, before: int) -> None:
    """Mark young entries and those that kept runs have used; list the others, and mark them too while runs go on.

    A run that goes on may have found such an entry a moment ago: its blobs go with the next collection.
    """
    used, needs.dropped = set(needs.dropped), []
    kept_runs = set(needs.kept)
    rows = tx.rows(
        "SELECT c.key, c.outputs, c.at, x.parent_id FROM step_cache c LEFT JOIN execution x ON x.id = c.execution_id"
    )
    for row in rows:
        if row["at"] < before and row["key"] not in used and row["parent_id"] not in kept_runs:
            needs.dropped.append(row["key"])
            if not needs.alive:
                continue
        needs.mark(row["outputs"])


def _mark_unfinished(tx: Transaction, blobs: BlobStore, needs: Needs, before: int) -> None:
    """Mark what workers have left for runs that can still take it in; list the manifests that nobody will."""
    try:
        attempts = attempts_beside(blobs)
    except InvalidInput:
        return  # blobs that no other machine sees: there are no such workers
    left: dict[str, list[str]] = {}
    for name in attempts.names(""):
        left.setdefault(name.rpartition("-")[0], []).append(name)
    for part in in_parts(left):
        found = among("id", part)
        done = among("state", sorted(DONE_STEP))
        query = f"SELECT id, ended FROM execution WHERE id IN ({found.sql}) AND state IN ({done.sql})"  # noqa: S608 - names only
        ended = {row["id"]: row["ended"] for row in tx.rows(query, **found.values, **done.values)}
        finished = set(ended)
        needs.attempts += [name for each, at in ended.items() if at is not None and at < before for name in left[each]]
        for execution_id in set(part) - finished:
            for name in left[execution_id]:
                needs.mark((attempts.read(name) or b"").decode("utf-8", "replace"))


def _list_expired(tx: Transaction, needs: Needs) -> None:
    """List what the expired runs leave behind."""
    for part in in_parts(needs.expired):
        found = among("id", part)
        query = f"SELECT facets FROM execution WHERE id IN ({found.sql}) OR parent_id IN ({found.sql})"  # noqa: S608 - names only
        for row in tx.rows(query, **found.values):
            facets = from_json(row["facets"])
            needs.sources |= {facets["captured"]} if facets.get("captured") else set()
            kept = [stored for stored in outputs_in(facets) if stored.version_id and stored.blobs]
            needs.versions |= {stored.version_id: stored.blobs for stored in kept}
