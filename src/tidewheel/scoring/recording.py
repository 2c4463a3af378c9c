"""Scorings in the graph: which version scored which rows into what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from tidewheel.database.transaction import Transaction
from tidewheel.errors import NotFound, TidewheelError
from tidewheel.lineage.read import get_execution, list_versions
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import add_version, append_event, ensure_entity, finish_execution, link, start_execution
from tidewheel.scoring.loaded import Portable
from tidewheel.scoring.sources import Source

KIND = "scoring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a finished scoring leaves in the graph."""

    run: str  # id of the execution
    model: Portable  # the version that scored
    source: Source  # what was scored
    source_digest: str  # digest of the input
    out: str  # file, URL or online table of the answers
    out_digest: str  # digest of the output; "" for an online table
    rows: int  # rows scored


def begin(store: Store, run: str, model: Portable, source: Source, *, parameters: Mapping[str, Any]) -> None:
    """Record that a scoring begins, with the versions that it uses."""
    with store.database.transaction() as tx:
        start_execution(tx, kind=KIND, job=model.name, at=store.clock.now(), parameters=parameters, execution_id=run)
        if model.version_id:
            link(tx, run, "used", model.version_id, role="model")
        if source.version_id:
            link(tx, run, "used", source.version_id, role="rows")


def known(store: Store, run: str) -> bool:
    """Say whether the store knows a scoring; another one may have been chosen since."""
    try:
        with store.database.reading() as tx:
            return get_execution(tx, run).kind == KIND
    except NotFound:
        return False


def fail(store: Store, run: str, error: BaseException) -> None:
    """Record that a scoring ended before its time."""
    said = error.what if isinstance(error, TidewheelError) else f"{type(error).__name__}: {error}"
    with store.database.transaction() as tx:
        finish_execution(tx, run, at=store.clock.now(), state="FAILED", error=said[:1_000])


def conclude(store: Store, trace: Trace) -> None:
    """Record that a scoring is done: its output as an artifact, its input file as one where it is no dataset."""
    at = store.clock.now()
    with store.database.transaction() as tx:
        if not trace.source.version_id:
            used = _file(store, tx, trace.source.place, trace.source_digest, trace.source.rows)
            link(tx, trace.run, "used", used, role="rows")
        body = {"model": trace.model.name, "version": trace.model.version, "rows": trace.rows, "out": trace.out}
        if trace.out_digest:
            made = _file(store, tx, trace.out, trace.out_digest, trace.rows)
            link(tx, made, "generated", trace.run, role="predictions")
        finish_execution(tx, trace.run, at=at, state="SUCCEEDED", facets=body)
        append_event(tx, "scoring.finished", body, at=at, execution_id=trace.run)


def file_entity(place: str) -> str:
    """Return the name under which the graph knows a file.

    >>> file_entity("s3://bucket/rows *.parquet")
    'file/rows-.parquet'
    """
    return f"file/{re.sub(r'[^A-Za-z0-9_.-]+', '-', PurePath(place).name)[:150] or 'rows'}"


def _file(store: Store, tx: Transaction, place: str, digest: str, rows: int) -> str:
    """Return the version of a file's entity with that digest, made now when it is new."""
    entity = ensure_entity(tx, "artifact", file_entity(place), at=store.clock.now())
    for version in list_versions(tx, entity.id):
        if version.digest == digest:
            return version.id
    facets = {"rows": rows, "file": True}
    return add_version(tx, entity.id, at=store.clock.now(), digest=digest, uri=place, facets=facets).id
