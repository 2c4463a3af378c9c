"""Stored values, and the environment they were made in, as versions in the graph."""

from __future__ import annotations

import re
from datetime import datetime

import sqlalchemy as sa

from tidewheel.database.transaction import Transaction
from tidewheel.fingerprint.environment import Environment
from tidewheel.lineage.tables import version
from tidewheel.lineage.write import add_version, ensure_entity
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.tree import media_type

_UNFIT = re.compile(r"[^A-Za-z0-9_.\-/\[\]]")  # what a name in the graph cannot hold, though a Python name can
_LONGEST = 200  # characters of a name in the graph
_SAME = (
    sa.select(version.c.id)
    .where(version.c.digest == sa.bindparam("bytes"), version.c.entity_id == sa.bindparam("entity"))
    .limit(1)
)


def record_artifact(tx: Transaction, name: str, stored: Stored, at: datetime) -> Stored:
    """Record a value as a version of the artifact of that name; the same bytes again are the same version."""
    entity = ensure_entity(tx, "artifact", _UNFIT.sub("_", name)[-_LONGEST:], at=at)
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


def record_environment(tx: Transaction, environment: Environment, at: datetime) -> str:
    """Record what a run happens in, with every package, as a version of the environment of that Python; return its id.

    The same packages again are the same version.
    """
    entity = ensure_entity(tx, "environment", f"python-{environment.python}-{environment.platform}", at=at)
    known = tx.execute(_SAME, {"bytes": environment.digest, "entity": entity.id}).scalar()
    if known is None:
        facets = {"packages": dict(environment.packages)}
        known = add_version(tx, entity.id, at=at, digest=environment.digest, media_type="text/plain", facets=facets).id
    return str(known)
