"""Delete what is no longer needed: bytes of old runs, their logs, old cache entries and environments.

What is known about it stays: runs, steps, artifacts and their edges keep their rows, and say that their payload is
gone. The database is told before and after; a collection that dies in the middle is finished by the next one.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.store import KeptBlob
from tidewheel.clock import new_id
from tidewheel.database.transaction import Transaction, among
from tidewheel.database.values import from_json, to_json
from tidewheel.lineage.outbox import forget_sent
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, finish_execution, start_execution
from tidewheel.pipelines.executors.attempts import attempts_beside
from tidewheel.pipelines.executors.environments import READY
from tidewheel.pipelines.locks import owner_name
from tidewheel.pipelines.retention import Needs, Retention, in_parts, named_in, survey

KIND = "collection"  # of its execution


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was, or would be, deleted of one kind."""

    kind: str  # artifacts, sources, leftovers, cache entries, run folders, environments, manifests, sent messages
    count: int  # how many
    size: int  # bytes, 0 where they are rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a collection did, or would do."""

    dry: bool  # whether nothing was deleted
    execution_id: str  # its record in the graph, "" for a dry one
    kept_runs: int  # runs that stay as they are
    expired_runs: int  # runs whose payload goes, or is gone already
    freed: tuple[Freed, ...]  # by kind
    spared: int  # blobs that nothing needs and that were used within the grace period

    @property
    def size(self) -> int:
        """Bytes of all kinds together."""
        return sum(freed.size for freed in self.freed)


def collect(store: Store, rules: Retention | None = None, *, dry: bool = False, by: str = "") -> Collection:
    """Delete what the rules no longer keep, or with `dry` only say what that would be.

    Runs may go on meanwhile, on this machine and others. Raises StorageUnavailable when database or blobs do not
    answer; what was deleted until then stays deleted, and calling it again goes on.
    """
    rules = rules or Retention()
    now = store.clock.now()
    # Listed before the database is read: what is put later is not in the list and cannot be lost.
    blobs = {blob.digest: blob for blob in store.blobs.kept()}
    with store.database.reading() as tx:
        needs = survey(tx, store.blobs, rules, now)
    sweep = _Sweep(store, rules, needs, blobs)
    if dry:
        return sweep.foretold(now)
    return sweep.carried_out(now, by)


class _Sweep:
    """One collection."""

    def __init__(self, store: Store, rules: Retention, needs: Needs, blobs: Mapping[str, KeptBlob]) -> None:
        self._store = store
        self._rules = rules
        self._needs = needs
        self._blobs = blobs
        self._since = store.clock.now() - rules.grace
        self._old = store.clock.now().timestamp() - rules.keep_days * 86_400
        self._kinds: dict[str, str] = {}
        for digests in needs.versions.values():
            self._kinds |= dict.fromkeys(digests, "artifacts")
        for digest in needs.sources:
            self._kinds |= dict.fromkeys([digest, *named_in(store.blobs, digest)], "sources")

    def foretold(self, now: datetime) -> Collection:
        """Say what would be deleted."""
        del now
        unneeded = [blob for digest, blob in self._blobs.items() if digest not in self._needs.marked]
        going = [blob for blob in unneeded if blob.used <= self._since]
        folders = [(kind, _size(folder)) for kind, folder in self._folders()]
        return self._collection(going, len(unneeded) - len(going), folders, dry=True, execution_id="")

    def carried_out(self, now: datetime, by: str) -> Collection:
        """Tell the database, delete, and tell it what was deleted."""
        with self._store.database.transaction() as tx:
            execution_id = self._begin(tx, now, by)
        gone, spared = self._delete_blobs()
        folders = self._delete_folders()
        for name in self._needs.attempts:
            attempts_beside(self._store.blobs).drop(name)
        found = self._collection(gone, spared, folders, dry=False, execution_id=execution_id)
        with self._store.database.transaction() as tx:
            self._end(tx, found, by)
        return found

    def _begin(self, tx: Transaction, now: datetime, by: str) -> str:
        needs = self._needs
        body = {"expired_runs": len(needs.expired), "cache_entries": len(needs.dropped)}
        execution_id = new_id()
        start_execution(tx, kind=KIND, job="gc", at=now, owner=owner_name(), parameters=body, execution_id=execution_id)
        append_event(
            tx,
            "collection.began",
            body,
            at=now,
            subject_id=execution_id,
            execution_id=execution_id,
            by=by,
            governs=True,
        )
        for part in in_parts(needs.dropped):
            found = among("key", part)
            tx.run(f"DELETE FROM step_cache WHERE key IN ({found.sql})", **found.values)  # noqa: S608 - names only
        forget_sent(tx, now - timedelta(days=self._rules.keep_days))
        return execution_id

    def _delete_blobs(self) -> tuple[list[KeptBlob], int]:
        """Delete what nothing needs: manifests first, because one that is in use again keeps what it names."""
        needs, gone, spared = self._needs, [], 0
        unneeded = [blob for digest, blob in self._blobs.items() if digest not in needs.marked]
        unneeded.sort(key=lambda blob: blob.digest not in needs.sources)
        for blob in unneeded:
            if blob.digest in needs.marked:
                spared += 1
                continue
            named = named_in(self._store.blobs, blob.digest) if blob.digest in needs.sources else set()
            if blob.used <= self._since and self._store.blobs.delete(blob.digest, unused_since=self._since):
                gone.append(blob)
            else:
                spared += 1
                needs.marked |= named
        return gone, spared

    def _delete_folders(self) -> list[tuple[str, int]]:
        freed: list[tuple[str, int]] = []
        for kind, folder in self._folders():
            size = _size(folder)
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                folder.unlink(missing_ok=True)
            freed.append((kind, size))
        return freed

    def _folders(self) -> Iterator[tuple[str, Path]]:
        """Return logs of expired runs, and what can be made again and was not used for long."""
        home, blobs = self._store.home, self._store.blobs
        if isinstance(blobs, FolderBlobs):
            for partial in (*blobs.folder.glob(".partial-*"), *blobs.folder.glob("*/.partial-*")):
                if _time(partial) < self._since.timestamp():  # whoever wrote it was killed
                    yield "half-written files", partial
        for run_id in self._needs.expired:
            if (home / "runs" / run_id).is_dir():
                yield "run folders", home / "runs" / run_id
        for kind, name, proof in (
            ("environments", "environments", "ready"),
            ("environments", "environments", READY),
            ("laid out files", "files", ""),
            ("laid out files", "reproduce", ""),
            ("notes", "captured", ""),
        ):
            for place in (home / name).glob("*"):
                told = place / proof if proof else place
                if not place.name.startswith(".") and told.exists() and _time(told) < self._old:
                    yield kind, place

    def _collection(
        self, gone: list[KeptBlob], spared: int, folders: list[tuple[str, int]], *, dry: bool, execution_id: str
    ) -> Collection:
        needs = self._needs
        counts, sizes = Counter[str](), Counter[str]()
        for blob in gone:
            kind = self._kinds.get(blob.digest, "leftovers")
            counts[kind] += 1
            sizes[kind] += blob.size
        for kind, size in folders:
            counts[kind] += 1
            sizes[kind] += size
        counts["cache entries"] += len(needs.dropped)
        counts["manifests"] += len(needs.attempts)
        counts["sent messages"] += needs.sent
        freed = [Freed(kind=kind, count=count, size=sizes[kind]) for kind, count in sorted(counts.items()) if count]
        return Collection(
            dry=dry,
            execution_id=execution_id,
            kept_runs=len(needs.kept),
            expired_runs=len(needs.expired),
            freed=tuple(freed),
            spared=spared,
        )

    def _end(self, tx: Transaction, found: Collection, by: str) -> None:
        at = self._store.clock.now()
        versions = self._mark_deleted(tx, at)
        for part in in_parts(self._needs.expired):
            _mark_runs(tx, part, at)
        freed = {freed.kind: {"count": freed.count, "size": freed.size} for freed in found.freed}
        body: dict[str, Any] = {"freed": freed, "spared": found.spared, "versions": len(versions)}
        for part in in_parts(versions):
            append_event(
                tx,
                "artifacts.deleted",
                {"versions": list(part)},
                at=at,
                subject_id=found.execution_id,
                execution_id=found.execution_id,
                by=by,
                governs=True,
            )
        append_event(
            tx,
            "collection.ended",
            body,
            at=at,
            subject_id=found.execution_id,
            execution_id=found.execution_id,
            by=by,
            governs=True,
        )
        finish_execution(tx, found.execution_id, at=at, state="SUCCEEDED", facets=body)

    def _mark_deleted(self, tx: Transaction, at: datetime) -> list[str]:
        """Say of every artifact version with a missing blob that its payload is gone; return those that are new."""
        present = self._store.blobs
        lost = [
            version
            for version, digests in self._needs.versions.items()
            if not self._needs.marked.issuperset(digests) and not all(present.exists(digest) for digest in digests)
        ]
        changed: list[str] = []
        for part in in_parts(lost):
            found = among("id", part)
            query = f"SELECT id, state, facets FROM version WHERE id IN ({found.sql}){tx.locking}"  # noqa: S608 - names only
            for row in tx.rows(query, **found.values):
                if '"collected":' in row["facets"] or (row["state"] == "LIVE" and row["id"] in self._needs.models):
                    continue  # said already, or a deleted model that was taken back meanwhile
                facets = to_json(from_json(row["facets"]) | {"collected": at.isoformat()})
                tx.run(
                    "UPDATE version SET state = 'DELETED', facets = :facets WHERE id = :id", id=row["id"], facets=facets
                )
                changed.append(row["id"])
        return changed


def _mark_runs(tx: Transaction, run_ids: Any, at: datetime) -> None:
    """Write into runs that their payload is gone; one that was taken up again meanwhile is left as it is."""
    found = among("id", run_ids)
    query = (
        f"SELECT id, facets FROM execution WHERE id IN ({found.sql})"  # noqa: S608 - names only
        f" AND state NOT IN ('QUEUED', 'RUNNING', 'WAITING'){tx.locking}"
    )
    for row in tx.rows(query, **found.values):
        facets = from_json(row["facets"])
        if "collected" not in facets:
            marked = to_json(facets | {"collected": at.isoformat()})
            tx.run("UPDATE execution SET facets = :facets WHERE id = :id", id=row["id"], facets=marked)


def _size(place: Path) -> int:
    files = [place] if place.is_file() else place.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def _time(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except OSError:
        return 0.0  # half made, or gone: nobody uses it
