"""What the demo reads from the store: how far the conductor is, what it decided, what stands behind a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidewheel.demo.client import Client
from tidewheel.lineage.read import get_execution, get_version, list_entities, list_events
from tidewheel.lineage.store import Store
from tidewheel.loop.status import LoopStatus, status
from tidewheel.predictions.reader import LogReader
from tidewheel.predictions.records import ANSWERED, Prediction
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.traffic import current_traffic
from tidewheel.registry.versions import ModelVersion, get_model

SHOWN = ("trigger.fired", "gate.", "rollout.", "model.deployed", "run.failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision of the loop, as a line."""

    seq: int  # place in the journal
    text: str  # what was decided and on what


class Journal:
    """Reads decisions as they come."""

    def __init__(self, store: Store, model: str) -> None:
        self._store, self._model = store, model
        self._seen = 0
        self._deployment = 0  # newest traffic row that the server was seen to answer by

    def state(self) -> LoopStatus | None:
        """Return the loop's state; None until the conductor has looked once."""
        found = status(self._store, self._model)
        return found[0] if found else None

    def follow_deployment(self, client: Client) -> None:
        """Wait until the server answers by the newest traffic row, as it would long before the next real row."""
        seq = current_traffic(self._store, self._model).seq
        if seq != self._deployment and client.wait_for_deployment(seq):
            self._deployment = seq

    def news(self) -> list[Decision]:
        """Return the decisions since the last call."""
        with self._store.database.reading() as tx:
            events = list_events(tx, after_seq=self._seen, limit=1000)
        if events:
            self._seen = events[-1].seq
        return [
            Decision(seq=event.seq, text=str(event.body["text"]))
            for event in events
            if event.type.startswith(SHOWN) and isinstance(event.body, dict) and "text" in event.body
        ]


def trace(store: Store, model: str, request_id: str) -> dict[str, Any]:
    """Return what stands behind one prediction: version, run, data, code and environment."""
    records = LogReader(log_folder(store.home, model), Prediction).read().records
    found = next((each for each in reversed(records) if each.id == request_id and each.status == ANSWERED), None)
    if found is None:
        return {"request": request_id}
    version = get_model(store, f"{model}:{found.version}")
    return {
        "request": request_id,
        "prediction": found.output[0],
        "model": f"{model}:{found.version}",
        "arm": found.arm,
        "bundle": version.bundle_digest,
        **_origins(store, version),
    }


def _origins(store: Store, version: ModelVersion) -> dict[str, Any]:
    with store.database.reading() as tx:
        run = get_execution(tx, version.run_id)
        data = get_version(tx, version.dataset_version_id)
        names = {entity.id: entity.name for entity in list_entities(tx, "dataset")}
    return {
        "run": run.id,
        "cause": run.facets.get("cause", {}).get("reason", ""),
        "pipeline": run.job,
        "code": run.code_digest,
        "environment": run.environment_digest,
        "dataset": f"{names[data.entity_id]}:{data.seq}",
        "dataset_digest": data.digest,
    }
