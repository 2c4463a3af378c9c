"""Read what is said of a model and its versions."""

from __future__ import annotations

from tidewheel.database.transaction import Transaction

FIELDS = ("owner", "description", "intended_use", "limitations", "ethics", "contact", "licence")
TAG = "tags."

Said = dict[str, str]  # by name


def read_annotations(tx: Transaction, entity_id: str) -> dict[int, Said]:
    """Return what is said of a model under 0, and of each of its versions under its number."""
    rows = tx.rows("SELECT seq, name, value FROM model_annotation WHERE entity_id = :entity", entity=entity_id)
    found: dict[int, Said] = {}
    for row in rows:
        found.setdefault(row["seq"], {})[row["name"]] = row["value"]
    return found
