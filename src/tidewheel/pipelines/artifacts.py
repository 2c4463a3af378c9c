"""Stored values as versions in the graph."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tidewheel.lineage.tables import version
from tidewheel.lineage.write import add_version, ensure_entity
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.tree import media_type

_SAME = (
    sa.select(version.c.id)
    .where(version.c.digest == sa.bindparam("bytes"), version.c.entity_id == sa.bindparam("entity"))
    .limit(1)
)


def record_artifact(tx: Connection, name: str, stored: Stored, at: datetime) -> Stored:
    """Record a value as a version of the artifact of that name; the same bytes again are the same version."""
    entity = ensure_entity(tx, "artifact", name, at=at)
    known = tx.execute(_SAME, {"bytes": stored.digest, "entity": entity.id}).scalar()
    if known is None:
        known = add_version(
            tx,
            entity.id,
            at=at,
            digest=stored.digest,
            media_type=media_type(stored),
            size=stored.size,
            facets={"codec": stored.codec, "content": stored.content, "inline": stored.inline},
        ).id
    return stored.with_version(known)
