"""Rows of the graph's tables as records, and records as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidewheel.clock import from_micros
from tidewheel.database.values import from_json
from tidewheel.lineage.records import Alias, Entity, Event, Execution, Version

Row = Mapping[str, Any]


def entity_of(row: Row) -> Entity:
    """Turn a row into its record."""
    return Entity(
        id=row["id"], kind=row["kind"], name=row["name"], at=from_micros(row["at"]), facets=from_json(row["facets"])
    )


def version_of(row: Row) -> Version:
    """Turn a row into its record."""
    return Version(
        id=row["id"],
        entity_id=row["entity_id"],
        seq=row["seq"],
        digest=row["digest"],
        uri=row["uri"],
        media_type=row["media_type"],
        size=row["size"],
        schema=from_json(row["schema"]),
        state=row["state"],
        facets=from_json(row["facets"]),
        at=from_micros(row["at"]),
    )


def execution_of(row: Row) -> Execution:
    """Turn a row into its record."""
    return Execution(
        id=row["id"],
        kind=row["kind"],
        job=row["job"],
        parent_id=row["parent_id"],
        state=row["state"],
        owner=row["owner"],
        fencing=row["fencing"],
        code_digest=row["code_digest"],
        environment_digest=row["environment_digest"],
        parameters=from_json(row["parameters"]),
        started=from_micros(row["started"]),
        ended=None if row["ended"] is None else from_micros(row["ended"]),
        error=row["error"],
        facets=from_json(row["facets"]),
    )


def alias_of(row: Row) -> Alias:
    """Turn a row into its record."""
    return Alias(
        entity_id=row["entity_id"],
        name=row["name"],
        version_id=row["version_id"],
        valid_from=from_micros(row["valid_from"]),
        valid_to=None if row["valid_to"] is None else from_micros(row["valid_to"]),
        by=row["actor"],
        reason=row["reason"],
    )


def event_of(row: Row) -> Event:
    """Turn a row into its record."""
    return Event(
        seq=row["seq"],
        id=row["id"],
        at=from_micros(row["at"]),
        type=row["type"],
        subject_id=row["subject_id"],
        execution_id=row["execution_id"],
        by=row["actor"],
        body=from_json(row["body"]),
        governs=bool(row["governs"]),
        digest=row["digest"],
    )
