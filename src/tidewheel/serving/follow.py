"""Follow the traffic table: load what is wanted in a thread, then replace one reference."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from tidewheel.errors import NotFound
from tidewheel.lineage.store import Store
from tidewheel.registry.traffic import Traffic, current_traffic
from tidewheel.registry.versions import list_models
from tidewheel.serving.arms import said
from tidewheel.serving.deploy import deploy
from tidewheel.serving.endpoint import Endpoint

POLL_SECONDS = 0.25
RETRY = timedelta(seconds=5)  # how long a deployment that was refused is left alone

logger = logging.getLogger("tidewheel.serving")


class Follower:
    """Keeps one endpoint on what the traffic table says."""

    def __init__(self, store: Store, endpoint: Endpoint, *, trust: bool) -> None:
        self._store = store
        self._endpoint = endpoint
        self._trust = trust
        self._refused: Traffic | None = None
        self._again = store.clock.now()

    def follow(self, wanted: Traffic) -> bool:
        """Swap in what is wanted, if it is not live yet; return whether something changed.

        Whatever goes wrong leaves the old deployment serving and its reason in `endpoint.trouble`.
        """
        endpoint, now = self._endpoint, self._store.clock.now()
        live = endpoint.deployed
        if live is not None and wanted == live.traffic:
            endpoint.trouble = ""
            return False
        if wanted == self._refused and now < self._again:
            return False
        try:
            fresh = deploy(self._store, wanted, live, trust=self._trust)
        except Exception as error:  # noqa: BLE001 - a bundle may fail in any way; the reason is shown and counted
            self._refuse(wanted, error, now)
            return False
        endpoint.deployed = fresh
        endpoint.trouble = ""
        endpoint.counters.swaps += 1
        self._refused = None
        logger.info("%s: version %d answers (deployment %d)", endpoint.model, wanted.champion, wanted.seq)
        return True

    def _refuse(self, wanted: Traffic, error: Exception, now: datetime) -> None:
        if wanted != self._refused:
            logger.warning("%s: deployment %d is refused: %s", self._endpoint.model, wanted.seq, said(error))
        self._refused, self._again = wanted, now + RETRY
        self._endpoint.trouble = said(error)
        self._endpoint.counters.swaps_refused += 1


def wanted_traffic(store: Store, models: Sequence[str] | None) -> dict[str, Traffic]:
    """Return what the traffic table says now, of the named models or of all; a model without traffic is left out."""
    found: dict[str, Traffic] = {}
    with store.database.reading() as tx:
        for model in list_models(tx) if models is None else models:
            with suppress(NotFound):
                found[model] = current_traffic(tx, model)
    return found


class Repeater:
    """Calls an action again and again in a thread of its own until it is stopped."""

    def __init__(self, action: Callable[[], object], seconds: float, name: str) -> None:
        self._action = action
        self._seconds = seconds
        self._stop = threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call comes after one pause."""
        self._thread.start()

    def stop(self) -> None:
        """End after the call under way, and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._action()
                self._said = ""
            except Exception as error:  # noqa: BLE001 - the thread must outlive a database that is away for a while
                if said(error) != self._said:
                    logger.warning("%s: %s", self._thread.name, said(error))
                self._said = said(error)
