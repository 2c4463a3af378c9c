"""What a tick reads before it decides, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from tidewheel.data.ingest import dataset_version
from tidewheel.data.records import DatasetVersion
from tidewheel.database.transaction import Transaction
from tidewheel.errors import NotFound
from tidewheel.lineage.read import resolve
from tidewheel.lineage.store import Store
from tidewheel.loop.loop import Loop
from tidewheel.loop.requests import Request, waiting_requests
from tidewheel.loop.state import Held, load_state
from tidewheel.registry.traffic import Traffic, current_traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One consistent view of what concerns a loop."""

    held: Held  # the loop's memory
    dataset: DatasetVersion  # newest version of its dataset
    traffic: Traffic | None  # how requests are answered; None before the first deployment
    requests: tuple[Request, ...]  # retrainings that people wait for

    @property
    def rolling(self) -> bool:
        """Whether a candidate is on trial."""
        return self.traffic is not None and self.traffic.challenger is not None


def read_facts(store: Store, loop: Loop) -> Facts:
    """Read the facts of a loop; raises NotFound, with near names, when its dataset is not registered."""
    with store.database.reading() as tx:
        return Facts(
            held=load_state(tx, loop.model),
            dataset=dataset_version(loop.data, resolve(tx, "dataset", loop.data)),
            traffic=_traffic(tx, loop.model),
            requests=tuple(waiting_requests(tx, loop.model)),
        )


def _traffic(tx: Transaction, model: str) -> Traffic | None:
    try:
        return current_traffic(tx, model)
    except NotFound:
        return None
