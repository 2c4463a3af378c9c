"""Stored values as versions in the graph."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tidewheel.lineage.tables import version
from tidewheel.lineage.write import add_version, ensure_entity
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.tree import media_type


def record_artifact(tx: Connection, name: str, stored: Stored, at: datetime) -> Stored:
    """Record a value as a version of the artifact of that name; the same bytes again are the same version."""
    entity = ensure_entity(tx, "artifact", name, at=at)
    same = (version.c.digest == stored.digest) & (version.c.entity_id == entity.id)
    known = tx.execute(sa.select(version.c.id).where(same).limit(1)).scalar()
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
