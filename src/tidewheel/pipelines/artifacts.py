"""Stored values, and the environment they were made in, as versions in the graph."""

from __future__ import annotations

import re
from datetime import datetime

from tidewheel.database.transaction import Transaction
from tidewheel.fingerprint.environment import Environment
from tidewheel.lineage.write import add_version, ensure_entity
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.tree import media_type

_UNFIT = re.compile(r"[^A-Za-z0-9_.\-/\[\]]")  # what a name in the graph cannot hold, though a Python name can
_LONGEST = 200  # characters of a name in the graph
# `|| ''` keeps SQLite from the index on (entity, number): it would look through all versions of a step that has many.
_SAME = "SELECT id, state FROM version WHERE digest = :digest AND entity_id || '' = :entity LIMIT 1"


def record_artifact(tx: Transaction, name: str, stored: Stored, at: datetime) -> Stored:
    """Record a value as a version of the artifact of that name; the same bytes again are the same version."""
    entity = ensure_entity(tx, "artifact", _UNFIT.sub("_", name)[-_LONGEST:], at=at)
    known = tx.row(_SAME, digest=stored.digest, entity=entity.id)
    if known is not None:
        if known["state"] != "LIVE":  # its payload was collected, and has just been made again
            tx.run("UPDATE version SET state = 'LIVE' WHERE id = :id", id=known["id"])
        return stored.with_version(known["id"])
    facets = {"codec": stored.codec, "content": stored.content, "inline": stored.inline}
    made = add_version(
        tx,
        entity.id,
        at=at,
        digest=stored.digest,
        media_type=media_type(stored),
        size=stored.size,
        facets=facets,
    )
    return stored.with_version(made.id)


def record_environment(tx: Transaction, environment: Environment, at: datetime) -> str:
    """Record what a run happens in, with every package, as a version of the environment of that Python; return its id.

    The same packages again are the same version.
    """
    entity = ensure_entity(tx, "environment", f"python-{environment.python}-{environment.platform}", at=at)
    known = tx.row(_SAME, digest=environment.digest, entity=entity.id)
    if known is not None:
        return str(known["id"])
    facets = {"packages": dict(environment.packages)}
    return add_version(tx, entity.id, at=at, digest=environment.digest, media_type="text/plain", facets=facets).id
