"""The handle that every room's operation takes first: database, blobs, clock and home."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidewheel.blobs.store import BlobStore
from tidewheel.clock import Clock
from tidewheel.database.database import Database
from tidewheel.errors import StorageUnavailable
from tidewheel.lineage.outbox import Delivery, Sinks, deliver


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where a project keeps what it knows; holds handles and no rules."""

    database: Database  # names, versions, runs, events
    blobs: BlobStore  # bytes by digest
    clock: Clock  # the time, injected
    home: Path  # local folder for the prediction log, locks and run logs
    lease_seconds: float = 60.0  # after which a run or retraining whose process says nothing is taken over by others
    storage_patience: float = 0.0  # seconds that a run waits for storage that is full or does not answer
    online_url: str = ""  # where answers computed ahead are kept: redis://...; empty: <home>/online.db
    secrets: Path | None = None  # folder with a file for each secret; None: environment variables alone
    executors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # options of executors by their names
    sinks: Sinks = field(default_factory=dict)  # who outside is told what runs do, by name

    def tell(self) -> Delivery:
        """Send what the outbox holds to those who are to be told; costs nothing where nobody is."""
        return deliver(self.database, self.clock, self.sinks)

    def close(self) -> None:
        """Tell what is left to tell, and give the connections back."""
        if self.sinks:
            with suppress(StorageUnavailable):  # it stays in the outbox, for the next process
                self.tell()
        self.database.close()
