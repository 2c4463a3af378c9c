"""Read what a run kept, and say when it was collected where it is gone."""

from __future__ import annotations

from typing import Any

from tidewheel.database.values import from_json
from tidewheel.errors import MissingBlob
from tidewheel.lineage.store import Store
from tidewheel.pipelines.stored import Shelf, Stored
from tidewheel.pipelines.tree import decode

MEND = "Its record stays. Run what made it again; keep_days and keep_runs in tidewheel.toml keep more the next time."


def load_payload(store: Store, stored: Stored, shelf: Shelf) -> Any:
    """Return a stored value; raises MissingBlob that names the artifact and the day when it was collected."""
    try:
        return decode(stored, shelf)
    except MissingBlob as error:
        raise explained(store, stored, error) from error


def explained(store: Store, stored: Stored, error: MissingBlob) -> MissingBlob:
    """Return the error that names the artifact whose payload was collected; the given one when none is known."""
    query = (
        "SELECT n.name, v.seq, v.state, v.facets FROM version v JOIN entity n ON n.id = v.entity_id WHERE v.id = :id"
    )
    with store.database.reading() as tx:
        row = tx.row(query, id=stored.version_id)
    if row is None or row["state"] != "DELETED":
        return error
    day = str(from_json(row["facets"]).get("collected", ""))[:10]
    return MissingBlob(f"The payload of the artifact {row['name']}:{row['seq']} was collected on {day}.", MEND)
